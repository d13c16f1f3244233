"""What is read from the text of a compiled program, against counts by hand."""

from experiments.harness import hlo
from experiments.harness.lowering import GRADIENTS, LAYERS, Collective

STEP = """\
HloModule step, is_scheduled=true, entry_computation_layout={(f32[3]{0})->f32[3]{0}}

FileNames
1 "step.py"

StackFrames
1 {file_location_id=1 parent_frame_id=1}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p: bf16[8,4]) -> bf16[8,4] {
  %p = bf16[8,4]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %exp = bf16[8,4]{1,0:T(8,128)(2,1)} exponential(%p)
}

ENTRY %main (x: bf16[8,4], w: f32[3], flags: pred[5]) -> (f32[3], f32[2,4]) {
  %x = bf16[8,4]{1,0:T(8,128)(2,1)} parameter(0)
  %w = f32[3]{0:T(128)} parameter(1)
  %flags = pred[5]{0} parameter(2)
  %fusion = bf16[8,4]{1,0:T(8,128)(2,1)} fusion(%x), kind=kLoop, calls=%fused, \
backend_config={"window_config":{"estimated_cycles":"1000"}}
  %mean = bf16[8,4]{1,0:T(8,128)(2,1)} all-reduce(%fusion), channel_id=1, \
replica_groups={{0,1}}, to_apply=%add, metadata={op_name="step/jvp(Chain)/norm/psum"}
  %both = (f32[3]{0:T(128)S(1)}, /*index=1*/pred[5]{0}) all-reduce(%w, /*index=1*/%flags), \
replica_groups={{0,1}}, to_apply=%add, metadata={op_name="step/psum"}, \
backend_config={"window_config":{"estimated_cycles":"234"}}
  %first = f32[3]{0:T(128)S(1)} get-tuple-element(%both), index=0
  ROOT %out = f32[3]{0} copy(%first)
}
"""

LOOP = """\
HloModule step

%part (s: (s32[], f32[6])) -> (s32[], f32[6]) {
  %s = (s32[], f32[6]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %w = f32[6]{0} get-tuple-element(%s), index=1
  %all-reduce-start = f32[6]{0} all-reduce-start(%w), metadata={op_name="body/jvp()/psum"}
  %all-reduce-done = f32[6]{0} all-reduce-done(%all-reduce-start), \
backend_config={"estimated_cycles":"10"}
  ROOT %next = (s32[], f32[6]{0}) tuple(%i, %all-reduce-done)
}

%go (s: (s32[], f32[6])) -> pred[] {
  %s = (s32[], f32[6]{0}) parameter(0)
  ROOT %true = pred[] constant(true)
}

ENTRY %main (x: (s32[], f32[6])) -> (s32[], f32[6]) {
  %x = (s32[], f32[6]{0}) parameter(0)
  ROOT %while = (s32[], f32[6]{0}) while(%x), condition=%go, body=%part, \
backend_config={"known_trip_count":{"n":"4"}}
}
"""

SPREAD = """\
HloModule step

ENTRY %main (p: f32[3,2]) -> f32[12,2] {
  %p = f32[3,2]{1,0} parameter(0)
  %all-gather-start = (f32[3,2]{1,0}, f32[12,2]{1,0}) all-gather-start(%p), dimensions={0}
  %whole = f32[12,2]{1,0} all-gather-done(%all-gather-start)
  %again = f32[12,2]{1,0} all-gather(%p), dimensions={0}
  %part = f32[3,2]{1,0} reduce-scatter(%whole), dimensions={0}
  %moved = f32[3,2]{1,0} collective-permute(%part), source_target_pairs={{0,1},{1,0}}
  ROOT %out = f32[12,2]{1,0} copy(%whole)
}
"""


def test_collectives_by_kind_and_place() -> None:
    """An instruction of several arrays is one: 3 float32 and 5 bytes. 32 bfloat16 are 64 bytes."""
    program = hlo.read(STEP)
    assert program.collectives == [
        Collective("all-reduce", LAYERS, 1, 64),
        Collective("all-reduce", GRADIENTS, 1, 3 * 4 + 5),
    ]
    assert (program.cycles, program.loops) == (1234, False)


def test_a_loop_repeats_what_it_holds() -> None:
    """Four times 24 bytes; the end of an asynchronous operation is not another one."""
    program = hlo.read(LOOP)
    assert program.collectives == [Collective("all-reduce", LAYERS, 4, 4 * 24)]
    assert (program.cycles, program.loops) == (40, True)
    once = hlo.read(LOOP.replace("known_trip_count", "other"))
    assert once.collectives == [Collective("all-reduce", LAYERS, 1, 24)]


def test_bytes_are_those_of_whole_arrays() -> None:
    """A device gives 6 of 24 numbers and gets all, or the other way round.

    Without names the places are not known.
    """
    assert hlo.read(SPREAD).collectives == [
        Collective("all-gather", hlo.UNNAMED, 2, 2 * 96),
        Collective("reduce-scatter", hlo.UNNAMED, 1, 96),
        Collective("collective-permute", hlo.UNNAMED, 1, 24),
    ]
