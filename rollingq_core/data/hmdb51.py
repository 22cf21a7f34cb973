"""HMDB51: 6766 clips of 51 actions, from films and YouTube; Kuehne et al. 2011."""

import re
from functools import partial
from pathlib import Path

import numpy as np

from rollingq_core.data.actions import MULTIOOD, VIDEOS, Actions
from rollingq_core.data.cache.reading import CachedDataset, read_manifest
from rollingq_core.data.clip_files import tenth
from rollingq_core.data.dataset import DataSplits
from rollingq_core.data.split_lists import read_lists
from rollingq_core.data.ucf101 import UCF101

NAMES = """
brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor
fencing flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push
pushup ride_bike ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke
somersault stand swing_baseball sword sword_exercise talk throw turn walk wave
"""
CLASSES = tuple(NAMES.split())
# Film, class; body parts, camera, people, view, quality, number.
NAMED = re.compile(rf"(.+)_({'|'.join(CLASSES)})_[fhul]_(?:cm|nm)_np\d+_[a-z]{{2}}_[a-z]{{3}}_\d+")
# The official splits: one file a class and split, lines of "clip.avi 1".
SPLITS, OF_NUMBER = "testTrainMulti_7030_splits", {"0": "none", "1": "train", "2": "test"}
# MultiOOD's far test: these classes are left out, as UCF-101 has the like, and of UCF-101's those
# that are listed lie outside. (It leaves golf on one side and GolfSwing on the other.)
WITHOUT = ("chew", "climb_stairs", "drink", "eat", "pick", "pour", "ride_horse", "run")
FAR_NAMES = """
ApplyEyeMakeup ApplyLipstick BabyCrawling BalanceBeam BandMarching BasketballDunk BenchPress
Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling BrushingTeeth CleanAndJerk
CricketBowling Drumming FieldHockeyPenalty FrisbeeCatch GolfSwing Haircut Hammering HeadMassage
HulaHoop IceDancing JugglingBalls JumpRope JumpingJack Kayaking Knitting Lunges MilitaryParade
MoppingFloor Nunchucks ParallelBars PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute
PlayingGuitar PlayingPiano PlayingSitar PlayingTabla PlayingViolin PoleVault PommelHorse Rafting
Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving StillRings
SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing Typing UnevenBars VolleyballSpiking
WritingOnBoard YoYo
"""
FAR_CLASSES = tuple(FAR_NAMES.split())


class Hmdb51(Actions):
    """Actions in films of all kinds; a group is the film that a clip was cut from."""

    name, title, home, code = "hmdb51", "HMDB51", "HMDB51", "HMDB"
    needs = (
        f"HMDB51 has to be fetched by hand: its folder holds {VIDEOS}/<class>/<clip>.avi of "
        "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database, and "
        f"flow/<clip>_flow_x.mp4 and _flow_y.mp4 as in {MULTIOOD}. With the folder {SPLITS} of the "
        "official splits the first one counts; without it a tenth of the films tests."
    )
    classes, near, published_count = CLASSES, CLASSES[:25], 6766

    def parse(self, name: str) -> tuple[int, str]:
        """Return label and film of a name ``film_class_f_cm_np1_fr_goo_0``."""
        found = NAMED.fullmatch(name)
        if not found:
            raise ValueError(f"got clip {name!r}, expected film_<one of the classes>_f_cm_np1_…")
        return CLASSES.index(found[2]), found[1]

    def video(self, name: str, folder: Path) -> Path:
        """Return where a clip's video lies."""
        return folder / VIDEOS / CLASSES[self.parse(name)[0]] / f"{name}.avi"

    def published(self, folder: Path) -> dict[str, str]:
        """Return the places of the official first split, where its files are."""
        if not (folder / SPLITS).is_dir():
            return {}
        paths = {folder / SPLITS / f"{action}_test_split1.txt": action for action in CLASSES}
        for path in paths:
            if not path.is_file():
                raise ValueError(f"root: {path} is missing, expected one file of each class")
        return read_lists(
            (path, partial(self._placed, action=action)) for path, action in paths.items()
        )

    def _placed(self, line: str, action: str) -> tuple[str, str]:
        """Return the clip of a line ``clip.avi number`` in a class's file, and its place."""
        file, _, number = line.strip().rpartition(" ")
        name = Path(file).stem
        label, _ = self.parse(name)
        if number not in OF_NUMBER or CLASSES[label] != action:
            raise ValueError(f"got {line!r}, expected <clip of {action}>.avi 0, 1 or 2")
        return name, OF_NUMBER[number]

    def is_published(self, folder: Path) -> bool:
        """Return whether the official first split is there, and whole."""
        return (folder / SPLITS).is_dir() and super().is_published(folder)

    def place_of_group(self, group: str) -> str:
        """Return test for a tenth of the films."""
        return "test" if tenth(group) == 1 else "train"

    def known_classes(self) -> dict[str, tuple[str, ...]]:
        """Return the classes that are known, by the kind of what lies outside."""
        return {"near": self.near, "far": tuple(c for c in CLASSES if c not in WITHOUT)}

    def load(
        self,
        split: str = "published",
        root: str | Path | None = None,
        audio: str | None = None,
        known: str | None = None,
        ucf101: str | Path | None = None,
    ) -> DataSplits:
        """Return the dataset from its cache, as :meth:`Actions.load`.

        Parameters
        ----------
        split, root, audio
            As there.
        known : {"near", "far"}, optional
            Take some classes only. Outside of the test split lie the others, or, far away, clips
            of the test split of UCF-101, which has to be prepared, too.
        ucf101 : str or Path, optional
            UCF-101's folder.
        """
        data = super().load(split, root, audio, known)
        if known == "far":
            data.test.outside = {"far": _far(self, UCF101.prepared(ucf101))}
        return data


def _far(dataset: Actions, folder: Path) -> CachedDataset:
    """Return UCF-101's test clips of the classes that HMDB51 has nothing like."""
    manifest = read_manifest(folder)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    is_far = np.isin(labels, [manifest["classes"].index(name) for name in FAR_CLASSES])
    tests = np.array(manifest["splits"]["published"]) == "test"
    rows, views = np.flatnonzero(is_far & tests), dataset.transforms({}, False)
    return CachedDataset(folder, rows, views, [0] * len(manifest["classes"]))


HMDB51 = Hmdb51()
NEEDS = HMDB51.needs
prepare, load, verify, folder_of = HMDB51.prepare, HMDB51.load, HMDB51.verify, HMDB51.folder_of
