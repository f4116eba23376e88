"""Makes the small files of PyTorch that the tests read.

    pip install torch==2.13.0 safetensors onnx numpy
    python tests/metrics/reference/make_state_dicts.py

`named_tensors()` says what is in them: `zipped.pth` in the layout since PyTorch 1.6, `streamed.pth` in that before,
`tensors.safetensors` with both 16-bit types; `module.pth`, `script.pt` and `nested.pth` are to be refused.
`channels.onnx` is a network of two operations.
"""

import pathlib

HERE = pathlib.Path(__file__).resolve().parent / "state_dicts"


def named_tensors():
    """A state dict with a shared storage, a transposed view, a parameter, a scalar, and most dtypes."""
    import torch

    base = torch.arange(24, dtype=torch.float32)
    module = torch.nn.BatchNorm2d(2)
    with torch.no_grad():
        module.running_mean.copy_(torch.tensor([1.0, 2.0]))
    state = module.state_dict()  # an OrderedDict with `_metadata`
    state["base"] = base.reshape(4, 6)
    state["transposed"] = base.reshape(4, 6).T
    state["tail"] = base[20:]
    state["parameter"] = torch.nn.Parameter(torch.tensor([0.5, -0.5]))
    state["empty"] = torch.zeros(0, 3)
    state["half"] = torch.tensor([1.5, -2.0], dtype=torch.float16)
    state["bfloat16"] = torch.tensor([1.5, -3.0], dtype=torch.bfloat16)
    state["double"] = torch.tensor([1 / 3], dtype=torch.float64)
    for name in ("int8", "int16", "int32", "int64", "uint8", "bool"):
        state[name] = torch.tensor([0, 1, 1], dtype=getattr(torch, name))
    return state


def main():
    import safetensors.torch
    import torch

    torch.manual_seed(0)
    HERE.mkdir(exist_ok=True)
    state = named_tensors()
    torch.save(state, HERE / "zipped.pth")
    torch.save(state, HERE / "streamed.pth", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 1), HERE / "module.pth")
    torch.save({"state_dict": dict(state), "epoch": 3}, HERE / "nested.pth")
    torch.jit.trace(torch.nn.Linear(2, 1), torch.zeros(1, 2)).save(str(HERE / "script.pt"))
    contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(contiguous, HERE / "tensors.safetensors")
    make_onnx()


def make_onnx():
    """`channels.onnx`: the mean of each channel over places, and as logits twice that, of any batch of images."""
    import onnx
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 4, 4])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 1, 1])
        for name in ("mean", "logits")
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Add", ["mean", "mean"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "channels", [images], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, HERE / "channels.onnx")


if __name__ == "__main__":
    main()
