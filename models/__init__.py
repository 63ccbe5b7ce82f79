"""The reference networks: MobileNetV1 and V2 with ULSAM attention, to build, train, recognize and load."""
