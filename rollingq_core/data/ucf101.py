"""UCF-101: 13 320 clips of 101 actions, from YouTube; Soomro et al. 2012."""

import re
from functools import partial
from pathlib import Path

from rollingq_core.data.actions import MULTIOOD, VIDEOS, Actions
from rollingq_core.data.split_lists import read_lists

NAMES = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch
Basketball BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles
BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag BreastStroke BrushingTeeth
CleanAndJerk CliffDiving CricketBowling CricketShot CuttingInKitchen Diving Drumming Fencing
FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing Haircut Hammering
HammerThrow HandstandPushups HandstandWalking HeadMassage HighJump HorseRace HorseRiding
HulaHoop IceDancing JavelinThrow JugglingBalls JumpingJack JumpRope Kayaking Knitting LongJump
Lunges MilitaryParade Mixing MoppingFloor Nunchucks ParallelBars PizzaTossing PlayingCello
PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano PlayingSitar PlayingTabla
PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor
RopeClimbing Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving
SoccerJuggling SoccerPenalty StillRings SumoWrestling Surfing Swing TableTennisShot TaiChi
TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars VolleyballSpiking WalkingWithDog
WallPushups WritingOnBoard YoYo
"""
CLASSES = tuple(NAMES.split())
# Names of files spell one class with another capital.
LABEL_OF = {name.lower(): label for label, name in enumerate(CLASSES)}
NAMED = re.compile(r"v_([A-Za-z]+)_g(\d\d)_c\d\d")
# The official first split tests on these; lines of its files are Class/v_Class_g01_c01.avi.
TEST_GROUPS = range(1, 8)
SPLIT_FILES = {"trainlist01.txt": "train", "testlist01.txt": "test"}


class Ucf101(Actions):
    """Actions in films from YouTube; a group is the film that clips of one action were cut from."""

    name, title, home, code = "ucf101", "UCF-101", "UCF-101", "UCF"
    needs = (
        f"UCF-101 has to be fetched by hand: its folder holds {VIDEOS}/v_<Class>_g<group>_"
        "c<clip>.avi of https://www.crcv.ucf.edu/data/UCF101.php, and "
        f"flow/<clip>_flow_x.mp4 and _flow_y.mp4 as in {MULTIOOD}. trainlist01.txt and "
        "testlist01.txt may lie there, too; the groups of clips say the same."
    )
    classes, near, published_count = CLASSES, CLASSES[:50], 13320

    def parse(self, name: str) -> tuple[int, str]:
        """Return label and group of a name ``v_Class_g01_c01``."""
        found = NAMED.fullmatch(name)
        if not found or found[1].lower() not in LABEL_OF:
            raise ValueError(f"got clip {name!r}, expected v_<one of the classes>_g01_c01")
        return LABEL_OF[found[1].lower()], f"{found[1]}_g{found[2]}"

    def video(self, name: str, folder: Path) -> Path:
        """Return where a clip's video lies: in the folder of videos, or in that of its class."""
        of_class = folder / VIDEOS / CLASSES[self.parse(name)[0]] / f"{name}.avi"
        return of_class if of_class.is_file() else folder / VIDEOS / f"{name}.avi"

    def published(self, folder: Path) -> dict[str, str]:
        """Return the places of the official first split, where its files are."""
        paths = {folder / file: place for file, place in SPLIT_FILES.items()}
        return read_lists(
            (path, partial(self._placed, place=place))
            for path, place in paths.items()
            if path.is_file()
        )

    def place_of_group(self, group: str) -> str:
        """Return test for groups 1 to 7, as in the official first split."""
        return "test" if int(group[-2:]) in TEST_GROUPS else "train"

    def _placed(self, line: str, place: str) -> tuple[str, str]:
        """Return the clip of a line ``Class/clip.avi label``, and its place; labels are from 1."""
        path, _, label = line.partition(" ")
        name = Path(path).stem
        self.parse(name)
        if label and (not label.isdigit() or not 1 <= int(label) <= len(CLASSES)):
            raise ValueError(f"got label {label!r}, expected 1 to {len(CLASSES)}")
        return name, place


UCF101 = Ucf101()
NEEDS = UCF101.needs
prepare, load, verify, folder_of = UCF101.prepare, UCF101.load, UCF101.verify, UCF101.folder_of
