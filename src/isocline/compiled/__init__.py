"""``solve(..., compile=True)``: the field as a graph, and the loops over it as compiled programs."""

from isocline.compiled.capture import try_to_trace
from isocline.compiled.graph import Traced
from isocline.compiled.loops import Bars, Leap, Record
from isocline.compiled.run import Chunk, Run, backwards, evaluates_at_start

__all__ = ["Bars", "Chunk", "Leap", "Record", "Run", "Traced", "backwards", "evaluates_at_start", "try_to_trace"]
