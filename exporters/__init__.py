"""Wing: one file a target format, each with the lowering that says what ULSAM means there."""
