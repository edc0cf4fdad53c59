"""The experiments on the paper, by the names that `isocline reproduce` knows them by."""

from isocline.experiments.reproduction import Reproduction
from isocline.experiments.section3.figure3 import Figure3
from isocline.experiments.section3.table1 import Table1
from isocline.experiments.section4.densities import Densities
from isocline.experiments.section4.figure4 import Figure4
from isocline.experiments.section4.figure5 import Figure5
from isocline.experiments.section4.tabular import Tabular
from isocline.experiments.section5.events import EventRates
from isocline.experiments.section5.figure8 import Figure8
from isocline.experiments.section5.figure10 import Figure10
from isocline.experiments.section5.figure11 import Figure11
from isocline.experiments.section5.pelts import Pelts
from isocline.experiments.section5.physionet import PhysioNet
from isocline.experiments.section5.table2 import Table2
from isocline.experiments.section6.drift import Drift
from isocline.experiments.section6.gradient_error import GradientError
from isocline.experiments.section6.lanes import Lanes
from isocline.experiments.section6.memory import Memory
from isocline.experiments.section6.nfe import Nfe
from isocline.experiments.section6.picard import Picard

EXPERIMENTS: dict[str, type[Reproduction]] = {
    "table1": Table1,
    "figure3": Figure3,
    "figure4": Figure4,
    "figure5": Figure5,
    "densities": Densities,
    "tabular": Tabular,
    "table2": Table2,
    "physionet": PhysioNet,
    "figure8": Figure8,
    "figure10": Figure10,
    "figure11": Figure11,
    "pelts": Pelts,
    "drift": Drift,
    "lanes": Lanes,
    "nfe": Nfe,
    "gradient-error": GradientError,
    "memory": Memory,
    "picard": Picard,
    "events": EventRates,  # last: its files are nowhere to be downloaded in the form it reads
}
