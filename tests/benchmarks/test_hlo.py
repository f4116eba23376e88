"""What is read off a program's text, on one whose numbers can be counted by hand."""

from benchmarks.hlo import Program, kernels, size_of

TEXT = """HloModule jit_program, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias), {1}: (2, {}, \
must-alias) }, entry_computation_layout={(f32[8]{0}, f32[8]{0}, f32[4]{0})->(f32[8]{0}, f32[4]{0})}

%inner (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %f = f32[8]{0} fusion(%p), kind=kLoop, calls=%fused
  ROOT %g = f32[8]{0} custom-call(%f), custom_call_target="gemm"
}

%branch_a (p: f32[8]) -> f32[8] {
  ROOT %p = f32[8]{0} parameter(0)
}

%branch_b (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%p)
}

%round (t: (f32[8], s32[])) -> (f32[8], s32[]) {
  %t = (f32[8]{0}, s32[]{:T(128)}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%t), index=0
  %w = f32[8]{0} while(%x), condition=%less, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %c = f32[8]{0} conditional(%i, %w, %w), branch_computations={%branch_a, %branch_b}
  %ar = (f32[8]{0}, bf16[4]{0}) all-reduce-start(%c, %h), to_apply=%add
  %ad = (f32[8]{0}, bf16[4]{0}) all-reduce-done(%ar)
  %kg = f32[4,4,3,64]{3,2,1,0:T(8,128)} convolution(%im, %gr), window={size=32x32 pad=1_1x1_1 rhs_dilate=2x2}, \
dim_labels=f01b_i01o->01bf
  %fw = f32[64,16,16,8]{3,2,1,0} convolution(%im, %k), window={size=3x3 rhs_dilate=2x2}, dim_labels=b01f_01io->b01f
  %im = bf16[64,64,64,3]{3,2,1,0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %r = (f32[8]{0}, s32[]) tuple(%x, %j)
}

ENTRY %main (a: f32[8], b: f32[8], d: f32[4]) -> (f32[8], f32[4]) {
  %a = f32[8]{0} parameter(0)
  %copy = f32[8]{0} copy(%a)
  %loop = (f32[8]{0}, s32[]) while(%copy), condition=%until, body=%round
  %cb = f32[8]{0} custom-call(%copy), custom_call_target="xla_ffi_python_cpu_callback"
  ROOT %out = (f32[8]{0}, f32[4]{0}) tuple(%a, %d)
}
"""


def test_a_rounds_kernels_are_those_of_the_outer_loop():
    """Five times the inner loop's two, the larger branch, the collective, two convolutions and a fusion."""
    program = Program(TEXT)
    assert program.round == {
        "fusion": 5 + 1,
        "custom-call": 5,
        "negate": 1,
        "all-reduce": 1,
        "bytes of all-reduce": 8 * 4 + 4 * 2,
        "convolution": 2,
    }
    assert kernels(program.round) == 15


def test_a_loop_without_a_note_runs_as_often_as_its_condition_says():
    noted = 'backend_config={"known_trip_count":{"n":"5"}}'
    assert noted in TEXT
    condition = """
%less (q: (f32[8], s32[])) -> pred[] {
  %q = (f32[8]{0}, s32[]) parameter(0)
  %five = s32[]{:T(128)} constant(7)
  %i = s32[] get-tuple-element(%q), index=1
  ROOT %lt = pred[] compare(%i, %five), direction=LT
}
"""
    assert Program(TEXT.replace(noted, "") + condition).round["custom-call"] == 7


def test_a_kernels_gradient_is_no_dilated_convolution():
    program = Program(TEXT)
    assert [conv["kernel gradient"] for conv in program.convolutions] == [True, False]
    assert [conv["operands"] for conv in program.dilated] == [["bf16[64,64,64,3]"]]
    assert program.dilated[0]["window"] == {"size": "3x3", "rhs_dilate": "2x2"}


def test_aliases_callbacks_and_dtypes():
    program = Program(TEXT)
    assert program.aliases == 2
    assert program.callbacks == ["xla_ffi_python_cpu_callback"]
    assert program.has_dtype("bf16")
    assert not program.has_dtype("f64")
    assert size_of("(f32[2,3]{1,0:T(8,128)S(1)}, pred[], bf16[4])") == 24 + 1 + 8
