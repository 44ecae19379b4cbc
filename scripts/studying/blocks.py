"""The blocks in their order. Each is a function of a lab, which does what is not done yet; what a block
needs of an earlier one, it asks for by the same name again."""
from dataclasses import dataclass
from typing import Callable

from studying import ablations, experts, rivals, sealed, searches


@dataclass
class Block:
    name: str       # and the folder of its results
    half: int
    what: str
    run: Callable   # of a lab


BLOCKS = [
    Block("experts", 1, "experts of four tasks and the classifier, each seed", experts.train_all),
    Block("controls", 1, "experts on their own tasks beside shuffled, mirrored, random rewards, format", experts.controls),
    Block("validation", 1, "single experts on the unseen tasks: for the oracle's choice", searches.validation),
    Block("searches", 1, "few-shot mixtures of experts and of random pools; a new z on the shots", searches.all_searches),
    Block("routing", 1, "prompt and classifier: who answers what", searches.routing),
    Block("sealed", 1, "the test split, once: hypotheses and all methods", sealed.read_once),
    Block("rivals", 2, "cores and rivals at equal replies: learning rates, then seeds of the best", rivals.all_rivals),
    Block("two_by_two", 2, "SVF and LoRA by policy gradient and by next tokens", rivals.two_by_two),
    Block("shots", 2, "searches on 3 to 20 shots", searches.shot_counts),
    Block("ablations", 2, "which matrices, layers and components", ablations.ablations),
    Block("copies", 2, "transfer to copies of the model with noise", ablations.copies),
    Block("nulls", 2, "tasks that the model cannot learn", ablations.nulls),
]
