# ruff: noqa: E501 (lines as the compiler writes them)
"""Counts from the text of a compiled program, against one that is counted by hand."""

import pytest

from keras_svag.accelerators import hlo

TEXT = """HloModule jit_train_step, is_scheduled=true

%fused_computation (param_0: f32[8,4], param_1: bf16[4,2]) -> f32[8,2] {
  %param_0 = f32[8,4]{1,0:T(8,128)} parameter(0)
  %param_1 = bf16[4,2]{1,0:T(8,128)S(1)} parameter(1)
  %convert.1 = bf16[8,4]{1,0} convert(%param_0)
  ROOT %dot.1 = f32[8,2]{1,0} dot(%convert.1, %param_1), lhs_contracting_dims={1}
}

%body (carry: (f32[8,2], s32[])) -> (f32[8,2], s32[]) {
  %carry = (f32[8,2]{1,0}, s32[]) parameter(0)
  %item = f32[8,2]{1,0} get-tuple-element(%carry), index=0
  %count = s32[] get-tuple-element(%carry), index=1
  %copy.1 = f32[8,2]{0,1} copy(%item)
  %copy.2 = f32[8,2]{1,0:S(1)} copy(%item)
  %convolution.1 = f32[8,2]{1,0} convolution(%copy.2, %copy.2), dim_labels=bf_io->bf
  ROOT %out = (f32[8,2]{1,0}, s32[]) tuple(%convolution.1, %count)
}

%condition (carry.1: (f32[8,2], s32[])) -> pred[] {
  %carry.1 = (f32[8,2]{1,0}, s32[]) parameter(0)
  ROOT %less = pred[] constant(false)
}

ENTRY %main (x: f32[8,4], w: bf16[4,2]) -> f32[8,2] {
  %x = f32[8,4]{1,0:T(8,128)} parameter(0), sharding={replicated}
  %w = bf16[4,2]{1,0:T(8,128)} parameter(1)
  %copy-start.1 = (bf16[4,2]{1,0:T(8,128)S(1)}, bf16[4,2]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%w)
  %copy-done.1 = bf16[4,2]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %fusion.1 = f32[8,2]{1,0} fusion(%x, %copy-done.1), kind=kOutput, calls=%fused_computation
  %all-reduce.1 = (f32[8,2]{1,0}, f32[8,4]{1,0}) all-reduce(%fusion.1, %x), channel_id=1, to_apply=%condition
  %item.1 = f32[8,2]{1,0} get-tuple-element(%all-reduce.1), index=0
  %permute = (f32[8,2], f32[8,2]) collective-permute-start(%item.1), channel_id=2
  %permuted = f32[8,2]{1,0} collective-permute-done(%permute)
  %zero = s32[] constant(0)
  %start = (f32[8,2]{1,0}, s32[]) tuple(%permuted, %zero)
  %loop = (f32[8,2]{1,0}, s32[]) while(%start), condition=%condition, body=%body
  ROOT %end = f32[8,2]{1,0} get-tuple-element(%loop), index=0
}
"""


@pytest.fixture(scope="module")
def module():
    return hlo.Module(TEXT)


def with_line(line):
    """The program with one more instruction at its start."""
    return hlo.Module(TEXT.replace("  %zero = ", f"  {line}\n  %zero = "))


def test_collectives_by_kind_and_by_bytes_that_are_sent(module):
    assert hlo.count_collectives(module) == {
        "all-reduce": {"count": 1, "bytes": 4 * (8 * 2 + 8 * 4)},
        "collective-permute": {"count": 1, "bytes": 4 * 8 * 2},
    }


def test_kernels_are_what_runs_and_those_of_a_loop_count_once(module):
    assert hlo.count_kernels(module) == {
        "total": 7,
        "all-reduce": 1,
        "collective-permute": 1,
        "convolution": 1,
        "copy": 3,  # one of them asynchronous
        "fusion": 1,
    }


def test_products_by_the_type_of_their_operands(module):
    assert hlo.count_products(module) == {"bf16": 1, "f32": 1}


def test_only_copies_to_another_order_are_layout_copies(module):
    assert hlo.count_layout_copies(module) == {"count": 1, "bytes": 4 * 8 * 2}


def test_bytes_on_chip(module):
    # The prefetched weights: written once, read by the fusion. The copy of the loop: written once,
    # read twice by the convolution.
    assert hlo.count_on_chip_bytes(module) == 2 * 8 * 2 + 3 * 4 * 16
    everywhere = sum(hlo.size([*i.shapes, *module.operand_shapes(i)]) for i in module.kernels)
    # The copy that starts names its operand a second time, and a flag.
    expected = everywhere - hlo.count_on_chip_bytes(module) - (4 * 2 * 2 + 4)
    assert hlo.count_off_chip_bytes(module) == expected


def test_of_a_slice_counts_what_is_read():
    text = """
ENTRY %main (x: f32[100,4]) -> f32[1,4] {
  %x = f32[100,4]{1,0} parameter(0)
  ROOT %row = f32[1,4]{1,0} slice(%x), slice={[3:4], [0:4]}
}
"""
    assert hlo.count_off_chip_bytes(hlo.Module(text)) == 2 * 4 * 4


@pytest.mark.parametrize(
    "line",
    [
        '%call = f32[8,2] custom-call(%permuted), custom_call_target="xla_ffi_python_cpu_callback"',
        "%out = token[] outfeed(%permuted, %token)",
        "%moved = f32[8,2]{1,0:T(8,128)S(5)} copy(%permuted)",
    ],
)
def test_host_transfers(module, line):
    assert hlo.count_host_transfers(module) == 0
    assert hlo.count_host_transfers(with_line(line)) == 1


def test_dynamic_shapes(module):
    assert hlo.count_dynamic_shapes(module) == 0
    assert hlo.count_dynamic_shapes(with_line("%some = f32[<=8,2]{1,0} custom-call()")) == 1


def test_libraries_of_a_gpu_are_kernels_by_name_and_products():
    target = 'custom_call_target="__cudnn$convForward"'
    module = with_line(f"%conv = (bf16[8,2], u8[0]) custom-call(%w, %w), {target}")
    assert hlo.count_kernels(module)["__cudnn$convForward"] == 1
    assert hlo.count_products(module) == {"bf16": 2, "f32": 1}
