"""The bundle: its manifest, and writing, reading, packing and checking it."""

from ulsam_deploy.device.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    SIGNATURE,
    ArtifactRecord,
    Evidence,
    FileRecord,
    Manifest,
    ModelCard,
    RunFacts,
    json_schema,
)
from ulsam_deploy.device.bundle.read import Bundle, read_bundle
from ulsam_deploy.device.bundle.write import BundleWriter, check_writable, pack, unpack

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "SIGNATURE",
    "ArtifactRecord",
    "Bundle",
    "BundleWriter",
    "Evidence",
    "FileRecord",
    "Manifest",
    "ModelCard",
    "RunFacts",
    "check_writable",
    "json_schema",
    "pack",
    "read_bundle",
    "unpack",
]
