"""What an experiment computes on, which its results depend on; remembered when it is sent to a cluster."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from ecodatum.files import write_json


@dataclass(frozen=True)
class Placement:
    """The device (`cpu`, `cuda`, or `auto`), and how many processes train one model."""

    device: str = "auto"
    processes: int = 1

    def remember(self, folder: Path) -> None:
        """Write it into an experiment's folder, so that `auto` means the same on any machine from now on."""
        write_json(folder / "placement.json", asdict(self))

    @classmethod
    def of(cls, folder: Path, device: "str | Self") -> Self:
        """Return the placement that is given; of `auto`, what the experiment in `folder` remembers."""
        if isinstance(device, cls):
            return device
        if device != "auto":
            return cls(str(device))
        try:
            return cls(**json.loads((folder / "placement.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
