"""``solve(..., compile=True)``: the field as a graph, and the loops over it as compiled programs."""

from isocline.compiled.graph import Traced, try_to_trace
from isocline.compiled.loops import Bars, Record
from isocline.compiled.run import Chunk, Run

__all__ = ["Bars", "Chunk", "Record", "Run", "Traced", "try_to_trace"]
