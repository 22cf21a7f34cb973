"""What verifying a dataset of clips finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What :meth:`rollingq_core.data.clips.Clips.verify` found.

    Attributes
    ----------
    clips : dict of str to int
        How many clips the split files list, by place.
    classes : dict of str to int
        The same by class.
    published : bool
        Whether the split files are the published ones.
    pictures : str
        Where pictures come from: ``"pyav"``, ``"ffmpeg"`` or ``"jpg"``.
    missing : list of str
        Files that a listed clip lacks.
    damaged : list of str
        What is wrong with files that can't be read.
    left_out : list of str
        Clips that preparing leaves out, and why; these are no fault.
    unlisted : list of str
        Clips that no split file lists.
    """

    clips: dict[str, int]
    classes: dict[str, int]
    published: bool
    pictures: str
    missing: list[str]
    damaged: list[str]
    left_out: list[str]
    unlisted: list[str]

    @property
    def ok(self) -> bool:
        """Whether every listed clip can be prepared, those that are left out aside."""
        return not self.missing and not self.damaged

    def __str__(self) -> str:
        counts = [
            " ".join(f"{name} {count}" for name, count in numbers.items())
            for numbers in (self.clips, self.classes)
        ]
        kind = "the published split" if self.published else "another split than the published"
        lines = [f"{sum(self.clips.values())} clips, {kind}: {'; '.join(counts)}"]
        lines += [f"pictures: {self.pictures}"]
        for name in ("missing", "damaged", "left_out", "unlisted"):
            entries = getattr(self, name)
            lines += [f"{name.replace('_', ' ')}: {len(entries)}"]
            lines += [f"  {entry}" for entry in entries]
        return "\n".join([*lines, "ok" if self.ok else "not ok"])
