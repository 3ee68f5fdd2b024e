"""What the grader runs inside a student's kernel, around every test: how things were before the
first cell of the notebook, and how they are now.

`grading.py` sends the text of this file with a `request`; nothing of it stays in the kernel but the
record of how things were, under a name that is drawn for each submission. The answer is one line
of JSON on the standard output of the kernel's first moment.

This is a fence and no wall: a student's code runs in the process that runs its tests. INSTRUCTOR.md
says what that means.
"""

import ast
import builtins
import importlib
import json
import re
import sys
import threading
import types

# Modules whose functions tests rely on.
WATCHED = re.compile(
    r"(numpy|scipy|sklearn|purification_nb|otter)(\.|$)|checks_"
    r"|(builtins|math|operator|statistics|random|copy|functools|itertools|json|inspect|pandas)$"
    r"|torch(\.(nn|nn\.functional|linalg|autograd|_tensor))?$"
    r"|IPython\.core\.interactiveshell$|ipykernel\.(ipkernel|kernelbase|zmqshell|iostream)$"
)
CLASSES_OF = ("purification_nb", "checks_", "IPython.core.interactiveshell", "ipykernel", "otter")
MISSING = object()
HOOKS = ("displayhook", "display_pub", "display_trap", "events", "input_transformer_manager")
HOOKS += ("custom_exceptions", "CustomTB", "ast_node_interactivity", "compile", "kernel")


def watched_owners() -> list:
    """The modules that are loaded and watched, and the classes that they define."""
    modules = [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, types.ModuleType) and WATCHED.match(name)
    ]
    classes = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and (
                value.__module__.startswith(CLASSES_OF) or value.__name__ in ("Tensor", "Module")
            ):
                classes[id(value)] = value
    return modules + list(classes.values())


def functions_behind(value) -> list:
    """The Python functions that a value is, or wraps."""
    found: list = []
    try:
        value = getattr(value, "__func__", value)
        while value is not None and len(found) < 9:
            if type(value) is types.FunctionType:  # a proxy may say that it is one
                found.append(value)
            value = vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None
    except Exception:  # torch.classes has no attributes but those it makes
        return found
    return found


def attributes_of(owner) -> list:
    """(owner, name, value) for every function, class and module that an owner holds; of the
    checks, all they hold."""
    is_module, kinds = isinstance(owner, types.ModuleType), (staticmethod, classmethod, property)
    return [
        (owner, name, value)
        for name, value in list(vars(owner).items())
        if not (is_module and name.startswith("__"))
        if callable(value)
        or isinstance(value, (types.ModuleType, *kinds))
        or owner.__name__.startswith("checks_")
    ]


def hooks_of(shell) -> dict:
    """Where a shell keeps what it does to a cell before and after running it."""
    manager = shell.input_transformer_manager
    holders = [(shell, name) for name in HOOKS + ("ast_transformers", "input_transformers_post")]
    holders += [(manager, name) for name in ("cleanup_transforms", "line_transforms")]
    holders += [(manager, "token_transformers"), (sys, "displayhook")]
    holders += [(sys, "stdout"), (sys, "stderr")]
    values = [(holder, name, getattr(holder, name)) for holder, name in holders]
    objects = [shell, shell.kernel, shell.kernel.session, shell.display_pub, shell.displayhook]
    return {
        "values": [(*one, list(one[2]) if isinstance(one[2], list) else None) for one in values],
        "events": {name: list(calls) for name, calls in shell.events.callbacks.items()},
        "objects": [(one, set(vars(one))) for one in objects],
    }


def remember(shell, request: dict) -> dict:
    """Load what the tests will need, and write down how everything is."""
    for module in request["modules"]:
        try:
            importlib.import_module(module)
        except Exception:  # the cell that wants it will say so
            continue
    owners = watched_owners()
    entries = [entry for owner in owners for entry in attributes_of(owner)]
    entries = [entry for entry in entries if entry[0] is not builtins]
    modules = {name: one for name, one in list(sys.modules.items()) if WATCHED.match(name)}
    functions = {id(one): one for *_, value in entries for one in functions_behind(value)}
    own = ("input", "_")  # which the kernel itself sets for each cell
    return {
        "builtins": {name: one for name, one in vars(builtins).items() if name not in own},
        "entries": entries,
        "modules": modules,
        "names": [(owner, set(vars(owner))) for owner in owners],
        "code": [(f, f.__code__, f.__defaults__, f.__kwdefaults__) for f in functions.values()],
        "hooks": hooks_of(shell),
        "stdout": sys.stdout,
        "given": {},
        "aside": {},
    }


def put_back_hooks(shell, hooks: dict) -> list[str]:
    """Give a shell back its own hooks; the names of those that were others."""
    changed = []
    for holder, name, value, content in hooks["values"]:
        if getattr(holder, name, MISSING) is not value:
            setattr(holder, name, value)
            changed.append(name)
        if content is not None and list(value) != content:
            value[:] = content
            changed.append(name)
    for one, names in hooks["objects"]:
        for name in set(vars(one)) - names:
            if callable(vars(one)[name]) and hasattr(type(one), name):
                delattr(one, name)
                changed.append(name)
    sys.settrace(None)
    sys.setprofile(None)
    threading.settrace(None)
    return changed


def set_back(owner, name: str, value) -> str:
    """Set an attribute to what it was, and give its full name."""
    if isinstance(owner, types.ModuleType):
        vars(owner)[name] = value
    else:
        setattr(owner, name, value)
    return f"{owner.__name__}.{name}"


def put_back(state: dict) -> list[str]:
    """Undo what was done to modules, classes and functions; the names of what was changed."""
    was = state["builtins"]
    changed = [f"builtins.{name}" for name in was if vars(builtins).get(name) is not was[name]]
    vars(builtins).update(was)
    changed += [name for name, one in state["modules"].items() if sys.modules.get(name) is not one]
    sys.modules.update(state["modules"])
    for owner, name, value in state["entries"]:
        if vars(owner).get(name, MISSING) is not value:
            changed.append(set_back(owner, name, value))
    for function, *was in state["code"]:
        if function.__code__ is not was[0] or function.__defaults__ is not was[1]:
            function.__code__, function.__defaults__, function.__kwdefaults__ = was
            changed.append(function.__name__)
    return changed + without_new(state)


def without_new(state: dict) -> list[str]:
    """Take away what was not there and would stand before what is meant: a builtin's name in a
    module, a method of a class."""
    changed = []
    for owner, names in state["names"]:
        is_class = isinstance(owner, type)
        new = (
            vars(owner).keys() - names
            if is_class
            else vars(owner).keys() & state["builtins"].keys()
        )
        for name in new - names:
            if not is_class or callable(vars(owner)[name]):
                delattr(owner, name)
                changed.append(f"{owner.__name__}.{name}")
    return changed


def replaced() -> list[str]:
    """The functions of watched modules that a notebook put in the place of their own: for otter,
    where nobody saw how things were before."""
    return [
        f"{owner.__name__}.{name}"
        for owner in [builtins, *watched_owners()]
        for owner, name, value in attributes_of(owner)
        if any(
            one.__module__ == "__main__" or "ipykernel_" in one.__code__.co_filename
            for one in functions_behind(value)
        )
    ]


def take_aside(names: list, space: dict, state: dict) -> None:
    """Let the builtin names that a test uses mean what they mean, until it has run; and the
    names that the given cells bound."""
    for name in names:
        if name in state["builtins"] and name in space:
            state["aside"][name] = space.pop(name)
    for name, value in state["given"].items():
        space[name] = value


def names_bound(source: str) -> set:
    """The names that a cell binds at its top level."""
    tree, names = ast.parse(source), set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(one.asname or one.name).split(".")[0] for one in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        else:
            names |= {
                one.id
                for one in ast.walk(node)
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
            }
    return names


def fingerprint(state: dict) -> int:
    """A number that changes where someone rewrote the record itself."""
    return hash(tuple(id(value) for *_, value in state["entries"]))


def answer(shell, request: dict) -> None:
    """Do what is asked, and say what was found."""
    key, what = request["key"], request["do"]
    if what == "remember":
        sys.modules[key] = types.SimpleNamespace(state=remember(shell, request))
    state, changed = sys.modules[key].state, []
    if what == "given":
        names = names_bound(request["source"]) - set(request["answers"])
        state["given"] |= {name: shell.user_ns[name] for name in names if name in shell.user_ns}
    elif what == "before":
        changed = put_back(state) + put_back_hooks(shell, state["hooks"])
        state["events"] = {name: list(calls) for name, calls in shell.events.callbacks.items()}
        for name, calls in shell.events.callbacks.items():
            calls[:] = state["hooks"]["events"].get(name, [])
        take_aside(request["names"], shell.user_ns, state)
    elif what == "after":
        changed = put_back(state) + put_back_hooks(shell, state["hooks"])
        for name, calls in state["events"].items():
            shell.events.callbacks[name][:] = calls
        shell.user_ns.update(state["aside"])
        state["aside"] = {}
    record = fingerprint(state) if what != "given" else 0
    told = {"nonce": request["nonce"], "changed": changed, "record": record}
    state["stdout"].write(json.dumps(told) + "\n")
    state["stdout"].flush()


if "request" in globals():
    from IPython import get_ipython

    answer(get_ipython(), globals()["request"])
