"""``python -m ulsam_deploy`` is ``ulsam-deploy``."""

import sys

from ulsam_deploy.cli import main

sys.exit(main())
