"""Imports what is slow at its first use, not where a module asks for it.

TensorFlow, Keras and TFDS take seconds to import. A command needs none of them
to print its help or to refuse a misspelt flag, but its module imports the
library at the top, as every module does. Between `start` and `finish`

  a module of ft_tf runs when one of its attributes is first asked for;
  a slow package is a placeholder, which imports the package at that time.

Nothing depends on it but the time: a module that uses TensorFlow while it is
imported, such as one that derives a class from a layer, loads it then.
"""

import gc
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

_SLOW = ('numpy', 'keras', 'tensorflow', 'tensorflow_datasets')
# Keras imports these, where they are, for wrappers and plots that nothing here
# has. They would take a quarter of the time and an eighth of the memory.
_OPTIONAL = ('matplotlib', 'sklearn')
# Modules that register something when they are imported.
_EAGER = ('ft_tf.cli', 'ft_tf.methods')
# What Python's import system asks of a module that was imported before: no
# reason to run it. `importlib.util.LazyLoader` has no such exception.
_KEPT = (
  '__class__',
  '__file__',
  '__loader__',
  '__name__',
  '__path__',
  '__spec__',
)


class _Module(types.ModuleType):
  """A module that runs when the first of its attributes is asked for."""

  def __getattribute__(self, name: str) -> Any:
    if name in _KEPT:
      return super().__getattribute__(name)
    _run(self)
    return getattr(self, name)


class _Package(types.ModuleType):
  """Stands for a package of another project, in the modules that import it.

  The package itself is imported as ever, since other packages may import parts
  of it by themselves.
  """

  def __getattr__(self, name: str) -> Any:
    _remove_placeholders()
    return getattr(importlib.import_module(self.__name__), name)


class _Loader(importlib.abc.Loader):
  """Makes a module as another loader does, which it is of afterwards."""

  def __init__(self, loader: importlib.abc.Loader):
    self._loader = loader

  def create_module(
    self, spec: importlib.machinery.ModuleSpec
  ) -> types.ModuleType | None:
    return self._loader.create_module(spec)

  def exec_module(self, module: types.ModuleType) -> None:
    assert module.__spec__ is not None
    module.__spec__.loader = module.__loader__ = self._loader


class _ModuleLoader(_Loader):
  """Loads a module of ft_tf without running it."""

  def exec_module(self, module: types.ModuleType) -> None:
    super().exec_module(module)
    module.__class__ = _Module


class _PackageLoader(_Loader):
  """Loads a placeholder of a slow package."""

  def create_module(
    self, spec: importlib.machinery.ModuleSpec
  ) -> types.ModuleType | None:
    return None  # An empty one.

  def exec_module(self, module: types.ModuleType) -> None:
    vars(module).pop('__path__', None)
    module.__class__ = _Package


class _KerasLoader(_Loader):
  """Loads Keras without what it takes along."""

  def exec_module(self, module: types.ModuleType) -> None:
    super().exec_module(module)
    hidden = [each for each in _OPTIONAL if each not in sys.modules]
    # None: an ImportError, as where the package is not installed.
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]
    try:
      self._loader.exec_module(module)
    finally:
      for each in hidden:
        del sys.modules[each]


class _Finder(importlib.abc.MetaPathFinder):
  """Finds some modules as the other finders do, and loads them otherwise."""

  def __init__(self, choose: Callable[[str], type[_Loader] | None]):
    """Makes a finder.

    Args:
      choose: Returns what loads a module, by its name; None for no other way.
    """
    self._choose = choose

  def find_spec(
    self,
    fullname: str,
    path: Sequence[str] | None,
    target: types.ModuleType | None = None,
  ) -> importlib.machinery.ModuleSpec | None:
    loader = self._choose(fullname)
    if loader is None:
      return None
    for finder in sys.meta_path:
      if isinstance(finder, _Finder) or not hasattr(finder, 'find_spec'):
        continue
      spec = finder.find_spec(fullname, path, target)
      if spec is not None:
        if spec.loader is not None:
          spec.loader = loader(spec.loader)
        return spec
    return None


def _deferred(name: str) -> type[_Loader] | None:
  """Returns what defers running a module; None if nothing does."""
  if any(f'{name}.'.startswith(f'{eager}.') for eager in _EAGER):
    return None
  if name in _SLOW:
    return _PackageLoader
  return _ModuleLoader if name.startswith('ft_tf.') else None


_finder = _Finder(_deferred)
_keras_finder = _Finder({'keras': _KerasLoader}.get)


def start() -> None:
  """Defers imports from here on; what is imported already stays."""
  for finder in (_keras_finder, _finder):  # The latter comes first then.
    if finder not in sys.meta_path:
      sys.meta_path.insert(0, finder)


def finish() -> None:
  """Imports what was deferred, and defers nothing from here on.

  The main thread does it at once: two threads that use a deferred module for
  the first time could see it half imported.
  """
  if _finder in sys.meta_path:
    sys.meta_path.remove(_finder)
  for name in _remove_placeholders():
    importlib.import_module(name)
  deferred = [each for each in sys.modules.values() if type(each) is _Module]
  for module in deferred:
    _run(module)
  if deferred:
    # Modules stay to the end. To look through them at each garbage collection
    # takes a tenth of a short command's time.
    gc.freeze()


def loaded_slow_packages() -> list[str]:
  """Returns the names of the slow packages that have been imported."""
  return [
    name
    for name in _SLOW
    if name in sys.modules and type(sys.modules[name]) is not _Package
  ]


def _remove_placeholders() -> list[str]:
  """Lets the next import of a slow package import it; returns the names."""
  names = [name for name in _SLOW if type(sys.modules.get(name)) is _Package]
  for name in names:
    del sys.modules[name]
  if names and _finder in sys.meta_path:
    sys.meta_path.remove(_finder)
  return names


def _run(module: types.ModuleType) -> None:
  """Runs a module of ft_tf that was deferred."""
  if type(module) is _Module:
    # Its own code asks for its attributes.
    object.__setattr__(module, '__class__', types.ModuleType)
    assert module.__spec__ is not None and module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)
