"""
Slow boot: what a worker imports before its app, so that it can be met while it boots.
"""

import os
import time
from pathlib import Path

#: Names a file, where the first worker says who it is and who its master.
ENV_BOOTING = "SLOW_BOOT_FILE"
#: Seconds in which something can be done to it.
BOOT_S = 2.0

if ENV_BOOTING in os.environ:
    path = Path(os.environ[ENV_BOOTING])
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.write_text(f"{os.getpid()} {os.getppid()}")
        draft.rename(path)
        time.sleep(BOOT_S)
