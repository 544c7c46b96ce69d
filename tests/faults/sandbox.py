"""Runs commands in this process and sees what they do beyond their answer.

A command may change its --workdir and what it caches for data; a refused one
only the latter. Everything else in the sandbox must stay, and Python itself may
write nowhere else, start no process, reach no network and unpickle nothing.
"""

import contextlib
import dataclasses
import faulthandler
import gc
import io
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import traceback
from collections.abc import Iterator
from unittest import mock

import keras
from absl.testing import absltest

from ft_tf import findings as finding_lines
from ft_tf import processes, rehearsal
from ft_tf.benchmark import sections
from ft_tf.browser import server
from ft_tf.cli import dispatch
from ft_tf.export import budget
from ft_tf.export import student as export_student
from ft_tf.training import strategy, turns
from tests import fixtures
from tests.faults import mutations, watching

_SECONDS = 60  # that a case may take on a busy machine
_FOLDERS = ('home', 'tmp', 'cwd', 'inputs', 'data')
# What names a fix: an imperative, or a flag.
_FIX = re.compile(
  r'--\w|\b(give|run|write|delete|remove|put|save|choose|leave|free|make|move|'
  r'add|use|set|wait|copy|convert|rename|train|export|fix|arrange|build|'
  r'connect|install|must|should|has to|expected)\b'
)
_CACHES = ('data_dir', 'signal_cache')


class Began(BaseException):
  """The command line was accepted: now hours of work would begin."""


@dataclasses.dataclass(frozen=True)
class Ended:
  """What a command ended with.

  Attributes:
    code: Its exit code; 'began' if its work was to begin.
    err: What it printed on standard error.
    wrong: What it must not have done, in words.
  """

  code: int | str
  err: str
  wrong: tuple[str, ...]


class Sandbox:
  """A folder with all that commands may touch.

  Attributes:
    root: The folder.
    began: How many commands were accepted.
  """

  def __init__(self, root: str):
    self.root = os.path.realpath(root)
    self.began = 0
    self._pristine = os.path.join(self.root, '.pristine')
    for name in _FOLDERS:
      os.makedirs(self.path(name))
    self._cases = 0
    self._known: dict[str, tuple[int, ...]] = {}

  def path(self, *names: str) -> str:
    return os.path.join(self.root, *names)

  def settle(self) -> None:
    """Takes what the folders hold now as what every case begins with."""
    for name in _FOLDERS:
      shutil.copytree(
        self.path(name),
        os.path.join(self._pristine, name),
        symlinks=True,
        copy_function=_copy_special,
      )
    self._known = self._list()
    # What is there stays. To look through it after some cases takes a tenth of
    # their time.
    gc.freeze()

  @contextlib.contextmanager
  def entered(self) -> Iterator[None]:
    """Works in the sandbox, with all that takes long left out."""
    home, tmp = self.path('home'), self.path('tmp')
    environment = {
      'HOME': home,
      'XDG_CACHE_HOME': os.path.join(home, '.cache'),
      'TMPDIR': tmp,
    }

    def begin(*arguments, **options):
      raise Began

    measured = finding_lines.Finding('student', 'not measured here', '')
    with (
      contextlib.chdir(self.path('cwd')),
      mock.patch.dict(os.environ, environment),
      mock.patch.object(tempfile, 'tempdir', tmp),
      # TFDS has read the home folder when it was imported.
      mock.patch(
        'tensorflow_datasets.core.constants.DATA_DIR',
        os.path.join(home, 'tensorflow_datasets'),
      ),
      mock.patch.object(sys, 'dont_write_bytecode', True),
      mock.patch.object(sys, 'path', [*sys.path, home]),
      mock.patch.object(turns, 'Turn', lambda *arguments: begin),
      mock.patch.object(rehearsal, 'rehearse', begin),
      mock.patch.object(processes, 'run_each', begin),
      mock.patch.object(budget, 'choose', begin),
      mock.patch.object(export_student, '_write_models', begin),
      mock.patch('ft_tf.doctor._measure_student', return_value=measured),
      mock.patch.object(strategy, 'make', _strategy(strategy.make)),
      mock.patch.dict(
        sections.SECTIONS, dict.fromkeys(sections.SECTIONS, begin)
      ),
      mock.patch.object(
        server.Server, 'serve_forever', side_effect=KeyboardInterrupt
      ),
    ):
      yield

  def place(self, path: str, content: mutations.Placed) -> None:
    """Puts something in a file's place, for one case."""
    path = self.path(path)
    if isinstance(content, bytes):
      with open(path, 'wb') as file:
        file.write(content)
      return
    os.remove(path)
    if content is mutations.Other.FOLDER:
      os.mkdir(path)
      with open(os.path.join(path, 'notes.txt'), 'w') as file:
        file.write('mine')
    elif content is mutations.Other.PIPE:
      os.mkfifo(path)
    elif content is not mutations.Other.NOTHING:
      os.symlink(content.value or os.path.basename(path), path)

  def remove(self, path: str) -> None:
    """Removes a file, for one case."""
    os.remove(self.path(path))

  def run(
    self, command: str, arguments: list[str], *, claimed: bool = False
  ) -> Ended:
    """Runs a command; afterwards the sandbox is as `settle` found it.

    Args:
      command: Its name.
      arguments: What stands after it.
      claimed: Whether its --workdir is that of a run, in which a command that
        is refused late leaves its notes.
    """
    before = self._list()
    # As those of a process are, whose strings may come from any bytes.
    out, err = (
      io.TextIOWrapper(io.BytesIO(), 'utf-8', errors=errors_, newline='\n')
      for errors_ in ('strict', 'backslashreplace')
    )
    wrong: list[str] = []
    watching.watch.seen, watching.watch.root = [], os.path.join(self.root, '')
    with (
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
      _limited(wrong),
    ):
      try:
        code: int | str = dispatch.run(
          command, arguments, name=f'ft-tf {command}'
        )
      except Began:
        code = 'began'
        self.began += 1
      except BaseException:
        code = 'traceback'
        wrong.append(traceback.format_exc())
      finally:
        watching.watch.root = ''
    wrong += watching.watch.seen
    for stream in (out, err):
      stream.flush()
    said = err.buffer.getvalue().decode()
    wrong += self._check_said(command, code, said)
    wrong += self._check_written(before, arguments, code == 2 and not claimed)
    self._restore()
    return Ended(code, said, tuple(wrong))

  def _check_said(self, command, code, said):
    if 'Traceback' in said:
      yield 'there is a traceback'
    if code not in (0, 1, 2, 'began', 'traceback'):
      yield f'the exit code is {code}'
    if code in (1, 2):
      lines = said.splitlines()
      name = f'ft-tf {command}: '
      if sum(line.startswith(name) for line in lines) != 1:
        yield 'there is not one line with the reason'
      elif not lines[-1].startswith(name):
        yield 'the reason is not the last line'
      elif not _FIX.search(lines[-1].removeprefix(name)):
        yield 'the reason names no fix'

  def _check_written(self, before, arguments, refused):
    """Yields what a command has changed and must not change."""
    names = _CACHES if refused else (*_CACHES, 'workdir')
    roots = [self.path('tmp'), self.path('cwd', 'runs')]
    roots += [self.path('home', 'tensorflow_datasets')]
    for name in names:
      for argument in arguments:
        flag, _, value = argument.lstrip('-').partition('=')
        if name.startswith(flag) or flag == name:
          roots.append(os.path.realpath(os.path.expanduser(value)))
    if refused:
      roots.remove(self.path('cwd', 'runs'))
    after = self._list()
    for path in sorted(before.keys() | after.keys()):
      if before.get(path) != after.get(path) and not any(
        _is_within(path, root) for root in roots
      ):
        yield f'{path} was written'

  def _list(self) -> dict[str, tuple[int, ...]]:
    listed = {}
    for name in _FOLDERS:
      for folder, folders, files in os.walk(self.path(name)):
        for each in (*folders, *files):
          path = os.path.join(folder, each)
          status = os.lstat(path)
          size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
          time = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
          listed[path] = (status.st_mode, size, time)
    return listed

  def _restore(self) -> None:
    self._cases += 1
    if not self._cases % 50:
      keras.backend.clear_session()  # It collects garbage.
    listed = self._list()
    changed = [
      path
      for path in listed.keys() | self._known.keys()
      if listed.get(path) != self._known.get(path)
    ]
    for path in sorted(changed, reverse=True):
      if os.path.isdir(path) and not os.path.islink(path):
        if not stat.S_ISDIR(self._known.get(path, (0,))[0]):
          shutil.rmtree(path)
      elif os.path.lexists(path):
        os.remove(path)
    for path in sorted(changed):
      if path in self._known and not os.path.lexists(path):
        source = os.path.join(self._pristine, os.path.relpath(path, self.root))
        if os.path.isdir(source) and not os.path.islink(source):
          os.mkdir(path)
        elif os.path.islink(source):
          os.symlink(os.readlink(source), path)
        else:
          _copy_special(source, path)
    if changed:
      self._known = self._list()


def _copy_special(source, target):
  """Copies a file, or makes the pipe that it is."""
  if stat.S_ISFIFO(os.lstat(source).st_mode):
    os.mkfifo(target)
    return target
  return shutil.copy2(source, target)


def _is_within(path, root):
  path = os.path.join(os.path.realpath(os.path.dirname(path)), '') + (
    os.path.basename(path)
  )
  # What is above a new folder is made with it.
  return (
    path == root
    or path.startswith(os.path.join(root, ''))
    or root.startswith(os.path.join(path, ''))
  )


def _strategy(make):
  """Returns `strategy.make` without a second split of the CPU."""

  def make_once(num_replicas: int = 0, kind: str = 'auto'):
    if kind == 'auto' and num_replicas in (0, 1, 2):
      return fixtures.strategy(max(num_replicas, 1))
    if kind == 'tpu' and not num_replicas:
      raise Began  # It would look for one in the network.
    return make(num_replicas, kind)

  return make_once


@contextlib.contextmanager
def _limited(wrong: list[str]) -> Iterator[None]:
  """Ends what takes too long: Python's code by an error, the rest for good.

  Args:
    wrong: Takes it; who meets the error may take it for one of the file.
  """

  def late(number, frame):
    wrong.append(''.join(traceback.format_stack(frame)))
    raise TimeoutError(f'no end after {_SECONDS} seconds')

  before = signal.signal(signal.SIGALRM, late)
  signal.alarm(_SECONDS)
  faulthandler.dump_traceback_later(
    3 * _SECONDS, exit=True, file=sys.__stderr__
  )
  try:
    yield
  finally:
    signal.alarm(0)
    faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGALRM, before)


def make(case: type[absltest.TestCase]) -> Sandbox:
  """Returns a sandbox that is there for the tests of a class."""
  return Sandbox(case.enterClassContext(tempfile.TemporaryDirectory()))
