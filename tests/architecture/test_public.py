"""The public names of the package, and their documentation."""

import inspect

import bothways


def test_the_public_names_are_those_of_all() -> None:
    assert sorted(bothways.__all__) == bothways.__all__
    assert all(hasattr(bothways, name) for name in bothways.__all__)
    visible = {
        name for name, value in vars(bothways).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert visible == set(bothways.__all__) - {"__version__"}


def test_every_public_name_is_documented() -> None:
    for name in bothways.__all__:
        value = getattr(bothways, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name
        if inspect.isclass(value) and not issubclass(value, Exception):
            for method_name, method in vars(value).items():
                assert method_name.startswith("_") or not callable(method) or method.__doc__, f"{name}.{method_name}"
