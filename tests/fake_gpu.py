"""A GPU that is none: tensors keep their values on the CPU, and devices that do not fit raise.

Each storage carries the name of the device that it would be on. `Watch` sees every operation of
torch, backward passes included, and raises where a GPU would: tensors of two devices in one
operation (numbers without dimensions excepted), an index on the GPU for a tensor on the CPU, a
generator of another device. `install` makes torch say that there is a GPU.
"""

import functools

import torch
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
MOVES = ("aten::_to_copy", "aten::to", "aten::copy_")
REAL_DEVICE = torch.Tensor.device


def is_gpu(device) -> bool:
    """Say whether a device, or its name, is the GPU."""
    return device is not None and torch.device(device).type == "cuda"


def place(tensor: torch.Tensor) -> str:
    """Give "cuda", "cpu", or "free" for what torch made inside an operation of its own."""
    return getattr(tensor.untyped_storage(), "place", "cpu")


def is_placed(tensor: torch.Tensor) -> bool:
    """Say whether it is known where a tensor is."""
    return tensor.is_meta or getattr(tensor.untyped_storage(), "place", "free") != "free"


def put(tensor: torch.Tensor, where: str) -> torch.Tensor:
    """Say where a tensor is."""
    tensor.untyped_storage().place = where
    return tensor


def device_of(tensor: torch.Tensor) -> torch.device:
    """Give the device that a tensor seems to be on."""
    return GPU if place(tensor) == "cuda" else REAL_DEVICE.__get__(tensor)


def mismatch(operation, tensors) -> RuntimeError:
    """Give what a GPU would raise."""
    shapes = [(place(one), tuple(one.shape)) for one in tensors]
    return RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0"
        f" and cpu! {operation} of {shapes}"
    )


def refuse_two_devices(operation, named, tensors) -> None:
    """Raise where tensors of two devices meet as they may not."""
    own = named.get("self")
    if "aten::index" in operation and "indices" in named and place(own) == "cuda":
        # which may be asked for rows by numbers of the CPU
        tensors = [own, *([named["values"]] if "values" in named else [])]
    gpu = [one for one in tensors if place(one) == "cuda"]
    numbers_may_mix = "_fused_" not in operation
    others = [one for one in tensors if place(one) == "cpu" and (one.dim() or not numbers_may_mix)]
    written = isinstance(own, torch.Tensor) and operation.endswith("_") and place(own) == "cpu"
    if gpu and (others or written):
        raise mismatch(operation, tensors)


class Watch(TorchDispatchMode):
    """See every operation: raise on a mismatch, and say where its answers are."""

    def __init__(self):
        super().__init__()
        self.seen = 0  # operations on the GPU

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        names = [argument.name for argument in func._schema.arguments]
        named = dict(zip(names, args, strict=False)) | (kwargs or {})
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        operation = func._schema.name
        told_gpu = is_gpu(named.get("device"))
        if told_gpu:
            named["device"] = CPU
        if operation in MOVES:
            where = "cuda" if told_gpu else place(tensors[0])
        else:
            refuse_two_devices(operation, named, tensors)
            where = "cuda" if told_gpu else self.together(tensors)
        self.refuse_foreign_generator(operation, named, where)
        self.seen += where == "cuda"
        first = args[:1] if names and names[0] == "self" else ()
        rest = {name: value for name, value in named.items() if not (first and name == "self")}
        answer = func(*first, **rest)
        for one in tree_leaves(answer):
            if isinstance(one, torch.Tensor) and not is_placed(one):
                put(one, where)
        return answer

    def together(self, tensors) -> str:
        """Give where an operation on these computes; what was free is there from now on."""
        places = {place(one) for one in tensors if one.dim()} or {place(one) for one in tensors}
        if any(place(one) == "cuda" for one in tensors):
            places = {"cuda"}
        where = next((name for name in ("cuda", "cpu") if name in places), "free")
        for one in tensors:
            if place(one) == "free":
                put(one, where)
        return where

    def refuse_foreign_generator(self, operation, named, where) -> None:
        """Raise where numbers are drawn on one device from a generator of another."""
        generator = named.get("generator")
        if generator is None:
            return
        its = FakeGenerator.places.get(generator._cdata, "cpu")
        if its != ("cuda" if where == "cuda" else "cpu"):
            raise RuntimeError(
                f"Expected a '{where}' device type for generator but found '{its}': {operation}"
            )


class FakeGenerator(torch.Generator):
    """A generator that seems to be on the device it was asked for."""

    places: dict[int, str] = {}
    kept: list = []

    def __new__(cls, device="cpu"):
        """Make one, and remember where it seems to be."""
        made = super().__new__(cls)
        cls.places[made._cdata] = torch.device(device).type
        cls.kept.append(made)  # an address is not given out twice
        return made


def to(tensor, *args, **kwargs):
    """Move a tensor as `Tensor.to` does."""
    kwargs.pop("copy", None)
    if args and isinstance(args[0], torch.Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
    kind = {"memory_format": layout} if layout is not None else {}
    where = place(tensor) if device is None else "cuda" if is_gpu(device) else "cpu"
    if device is not None and device.type == "meta":
        return REAL_TO(tensor, device, dtype or tensor.dtype)
    changed = REAL_TO(tensor, dtype or tensor.dtype, **kind)
    if where == ("cuda" if place(tensor) == "cuda" else "cpu"):
        return changed
    return put(changed.clone() if changed is tensor else changed, where)


REAL_TO = torch.Tensor.to


def refuse_numpy(tensor, *args, **kwargs):
    """Give the numbers, but not of a tensor on the GPU."""
    if place(tensor) == "cuda":
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor"
            " to host memory first."
        )
    return REAL_NUMPY(tensor, *args, **kwargs)


REAL_NUMPY = torch.Tensor.numpy


def told_where(make):
    """Let a function that makes tensors make them on the GPU."""

    @functools.wraps(make)
    def made(*args, device=None, **kwargs):
        from_data = make.__name__ in ("tensor", "as_tensor", "asarray", "scalar_tensor")
        if from_data:
            source = args[0] if args else None
            answer = make(*args, **kwargs)
            if device is None:
                device = source.device if isinstance(source, torch.Tensor) else CPU
            if is_gpu(device) and answer is source:
                return to(answer, device)
            return put(answer, "cuda") if is_gpu(device) else answer
        more = {} if device is None else {"device": device}
        answer = make(*args, **kwargs, **more)
        if isinstance(answer, torch.Tensor) and place(answer) == "free":
            put(answer, "cuda" if is_gpu(device) else "cpu")
        return answer

    return made


def copied(tensor, memo, copy=torch.Tensor.__deepcopy__):
    """Copy a tensor, on its device."""
    where, made = place(tensor), copy(tensor, memo)
    return put(made, where)


def install(monkeypatch) -> None:
    """Make torch say that there is a GPU, until `monkeypatch` undoes it."""
    real_autocast = torch.autocast
    patches = {
        "device": property(device_of),
        "is_cuda": property(lambda tensor: place(tensor) == "cuda"),
        "to": to,
        "cpu": lambda tensor, *more, **kwargs: to(tensor, CPU),
        "cuda": lambda tensor, *more, **kwargs: to(tensor, GPU),
        "numpy": refuse_numpy,
        "__deepcopy__": copied,
    }
    for name, value in patches.items():
        monkeypatch.setattr(torch.Tensor, name, value)
    for make in _device_constructors():
        monkeypatch.setattr(torch, make.__name__, told_where(make), raising=False)
    monkeypatch.setattr(torch, "Generator", FakeGenerator)
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *args, **kwargs: real_autocast(
            "cpu" if kind == "cuda" else kind, *args, **kwargs
        ),
    )
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        monkeypatch.setattr(torch.optim.Optimizer, name, lambda optimiser: None, raising=False)
    for name, value in {
        "_lazy_init": None,
        "is_available": True,
        "current_device": 0,
        "synchronize": None,
        "is_current_stream_capturing": False,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)


def values_of(thing):
    """Give a tensor's values, in their place, without what autograd knows of it."""
    return thing.detach() if isinstance(thing, torch.Tensor) else thing


class Recorder(TorchDispatchMode):
    """Write down what is done, as a CUDA graph does; refuse to wait for an answer."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name == "aten::_local_scalar_dense":
            raise RuntimeError("operation not permitted when stream is capturing")
        answer = func(*args, **(kwargs or {}))
        self.done.append(tree_map(values_of, (func, args, kwargs or {}, answer)))
        return answer


class FakeGraph:
    """Do again what was written down, on the same tensors, answers in the same places."""

    def __init__(self, replayed):
        self.recorder, self.replayed = Recorder(), replayed

    def replay(self):
        """Do it all again."""
        self.replayed.append(self)
        with torch.no_grad():
            for func, args, kwargs, answer in self.recorder.done:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(answer), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def install_graphs(monkeypatch) -> list:
    """Let torch record and replay; the list of what was replayed."""
    from contextlib import nullcontext
    from types import SimpleNamespace

    replayed = []
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "CUDAGraph": lambda: FakeGraph(replayed),
        "graph": lambda graph, **more: graph.recorder,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda stream: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return replayed
