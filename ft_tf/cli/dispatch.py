"""`ft-tf COMMAND [--flag=value ...]`: help, errors and results of all commands.

A command is a module of this package with

  a docstring, its manual, whose first line is its summary;
  `define_flags(values)`, which defines its flags;
  `run(values)`, which makes one call of the library and returns an `Outcome`.

Exit codes: 0 success; 2 a usage error, with the fix on one line and nothing
written; 1 a failed run, one line; 130 after Ctrl-C, 143 after SIGTERM, 129
after SIGHUP.
"""

import importlib
import math
import os
import shutil
import sys
import types
from collections.abc import Sequence
from typing import Any, TextIO

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags, logging

import ft_tf
from ft_tf import (
  errors,
  interrupts,
  json_files,
  lazy_imports,
  native_output,
  paths,
  standard_streams,
  storage,
)
from ft_tf.cli import flag_sets, help_text, outcome
from ft_tf.models import keras_settings, model_files
from ft_tf.training import cluster

# Name to module, in the order of `ft-tf --help`.
COMMANDS = {
  'demo': 'demo',
  'compress': 'compress',
  'doctor': 'doctor',
  'compare': 'compare',
  'runs': 'runs',
  'evaluate': 'evaluate',
  'export': 'export',
  'inspect': 'inspect_model',
  'prepare-data': 'prepare_data',
  'import-torch': 'import_torch',
  'train-teacher': 'train_teacher',
  'train-paraphraser': 'train_paraphraser',
  'train-student': 'train_student',
  'benchmark': 'benchmark',
}
_HELP = ('--help', '-help', '-h', '--helpshort', '--helpfull')
_VERSION = '--version'


def main(command: str | None = None) -> None:
  """Runs a command and leaves Python with its exit code.

  Args:
    command: One of `COMMANDS`; None: the first argument of the command line.
  """
  arguments = sys.argv[1:]
  name = os.path.basename(sys.argv[0])
  if command is None:
    name = 'ft-tf'
    if arguments[:1] == [_VERSION]:
      _tell(name, ft_tf.__version__, 0)
    if not arguments or arguments[0] in _HELP:
      _tell(name, _overview(), 0 if arguments else 2)
    command, *arguments = arguments
    if command not in COMMANDS:
      _leave(
        name,
        f'there is no command {command!r}'
        f'{errors.did_you_mean(command, COMMANDS)}; ft-tf --help lists all',
        2,
      )
    name = f'ft-tf {command}'
  code = run(command, arguments, name=name)
  cluster.leave_if_failed(code)
  interrupts.leave(code)


def run(command: str, arguments: Sequence[str], *, name: str) -> int:
  """Runs a command; returns its exit code.

  Args:
    command: One of `COMMANDS`.
    arguments: What stands after the command.
    name: What error messages call the program.
  """
  # Read once, by the import of each; a user's are for other programs, such as
  # the notebook that this command is called from.
  os.environ |= {
    'KERAS_BACKEND': 'tensorflow',
    keras_settings.LEGACY: '0',
    'MPLBACKEND': 'agg',
  }
  values = flags.FlagValues()
  try:
    module = _module(command)
    module.define_flags(values)
    _define_json(values)
    if any(argument in _HELP for argument in arguments):
      _write(
        help_text.render(
          values,
          module.__doc__ or '',
          recipe=_recipe_name(arguments),
          full='--helpfull' in arguments,
        )
      )
      return 0
    _parse(values, arguments, getattr(module, 'POSITIONAL', ''))
    if 'list_recipes' in values and values.list_recipes:
      _print(outcome.recipes_outcome(), values.json)
      return 0
    if not _reads_files_alone(command, values):
      _import_everything(values)
    interrupts.raise_from_here()
    result = module.run(values)
    cluster.finish()
    if not cluster.is_chief():
      return _say(name, cluster.describe_end(), 0)
    _print(result, values.json)
    return 0
  except errors.UsageError as error:
    return _say(name, error, 2)
  except errors.TrainingError as error:
    return _say(name, error, 1)
  except Exception as error:
    reason = _describe_disk_error(error, values)
    if reason is None:
      raise
    return _say(name, reason, 1)
  except KeyboardInterrupt as stop:
    interrupts.told()
    reason = str(stop) or 'stopped; the same command continues'
    return _say(name, reason, interrupts.exit_code())


def _describe_disk_error(
  error: Exception, values: flags.FlagValues
) -> Any | None:
  """Returns the line for a file that the system refused, wherever it lies."""
  known_flags = values.is_parsed() and 'workdir' in values
  workdir = values.workdir if known_flags else None
  known = storage.explain(error, workdir or os.curdir, within=os.sep)
  if known is None and isinstance(error, FileNotFoundError) and error.filename:
    return (
      f'{error.filename} disappeared while this command used it: put it back, '
      'and run the same command again'
    )
  return known


def _module(command: str) -> types.ModuleType:
  return importlib.import_module(f'ft_tf.cli.{COMMANDS[command]}')


def _reads_files_alone(command: str, values: flags.FlagValues) -> bool:
  """Tells whether a call needs no TensorFlow, which takes seconds to import."""
  return command == 'runs' or (command == 'demo' and values.export is not None)


def _define_json(values: flags.FlagValues) -> None:
  flag_sets.define(
    values,
    flag_sets.OTHER,
    'json',
    False,
    'print the result as one line of JSON on standard output, and nothing else '
    'there; so it is wherever standard output is not a terminal',
  )


def _overview() -> str:
  """Returns the help of `ft-tf` itself."""
  lines = [
    'Compresses Keras image classifiers by Factor Transfer.',
    '',
    '  ft-tf demo                     try it: handwritten digits, minutes',
    '  ft-tf COMMAND --help           the manual of a command',
    '',
    'Commands:',
  ]
  columns = min(shutil.get_terminal_size().columns, 100)
  for command in COMMANDS:
    # `python -OO` has no docstrings.
    summary = (_module(command).__doc__ or '').partition('\n')[0]
    lines.append(f'  {command:<18} {summary}'[:columns].rstrip())
  return '\n'.join(lines)


def _recipe_name(arguments: Sequence[str]) -> str:
  """Returns the value of `--recipe`, before flags are parsed."""
  for i, argument in enumerate(arguments):
    flag, equals, value = argument.partition('=')
    if flag in ('--recipe', '-recipe'):
      return value if equals else ''.join(arguments[i + 1 : i + 2])
  return ''


def _parse(
  values: flags.FlagValues, arguments: Sequence[str], positional: str
) -> None:
  """Parses a command line.

  Args:
    values: The flags.
    arguments: What stands after the command.
    positional: The flag that may be given without its name; '': none may.

  Raises:
    UsageError: it is wrong.
  """
  _check_flag_files(arguments)
  try:
    rest = values(['', *arguments])
  except flags.UnrecognizedFlagError as error:
    raise errors.UsageError(
      f'there is no flag --{error.flagname}'
      f'{errors.did_you_mean(error.flagname, list(values), prefix="--")}; '
      '--help lists all'
    ) from error
  except flags.CantOpenFlagFileError as error:
    raise errors.UsageError(f'{error}: give the path of a text file') from error
  except UnicodeDecodeError as error:
    raise errors.UsageError(
      f'--flagfile is not text ({error.reason}): give a file of lines such as '
      '--seed=3'
    ) from error
  except flags.Error as error:
    raise errors.UsageError(f'{error}; --help lists all') from error
  if len(rest) == 2 and positional and not values[positional].present:
    values[positional].parse(rest.pop())
  if len(rest) > 1:
    raise errors.UsageError(f'{rest[1]!r} is not a flag: write --name=value')
  for name in values:
    flag = values[name]
    if isinstance(flag.value, float) and not math.isfinite(flag.value):
      # absl's bounds let NaN pass.
      raise errors.UsageError(
        f'--{name}={flag.value}: {flag.help}; give a finite number'
      )
    if name == 'data_dir' and flag.value == '':
      raise errors.UsageError(f'--data_dir is empty: give a {flag.help}')
    if isinstance(flag.value, str):
      flag.value = paths.expand(flag.value)
    elif isinstance(flag.value, list):
      flag.value = [paths.expand(str(each)) for each in flag.value]


def _check_flag_files(arguments: Sequence[str]) -> None:
  """Raises `UsageError` for absl's --flagfile of a pipe, which would wait."""
  for i, argument in enumerate(arguments):
    flag, equals, value = argument.lstrip('-').partition('=')
    if flag == 'flagfile':
      path = value if equals else ''.join(arguments[i + 1 : i + 2])
      paths.check_regular(os.path.expanduser(path), '--flagfile=')


def _import_everything(values: flags.FlagValues) -> None:
  """Imports TensorFlow and the library, without the notes they print."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  with native_output.held():
    lazy_imports.finish()
    keras_settings.use_defaults()
    tf.config.list_physical_devices()
  # TensorFlow's and TFDS's notes; what ends a command is an exception.
  logging.set_verbosity(logging.FATAL)
  tf.get_logger().setLevel('FATAL')
  tfds.disable_progress_bar()
  if 'allow_unsafe_model' in values and values.allow_unsafe_model:
    model_files.allow_unsafe()


def _print(result: outcome.Outcome, as_json: bool) -> None:
  """Prints the text for a person, or one line of JSON for a program.

  Where standard output carries the JSON, the text goes to standard error.
  """
  as_json = as_json or not sys.stdout.isatty()
  if result.text:
    _write(result.text, sys.stderr if as_json else sys.stdout)
  if as_json:
    _write(json_files.to_json(result.values))


def _write(text: str, stream: TextIO | None = None) -> None:
  """Writes lines to a stream; None: standard output.

  Raises:
    TrainingError: standard output takes none; that of error never fails.
  """
  try:
    print(text, file=stream, flush=True)
  except OSError as error:
    # Python would try again when it ends, and complain in lines of its own.
    sys.stdout = standard_streams.open_dropping(1)
    if isinstance(error, BrokenPipeError):
      return  # Its reader has seen enough, such as `head`.
    raise errors.TrainingError(
      f'cannot write to standard output ({error.strerror}): give another place '
      'for it; what is done is not done again by the same command'
    ) from error


def _say(name: str, reason: Any, code: int) -> int:
  """Prints a reason on one line of standard error; returns the exit code."""
  print(f'{name}: {" ".join(str(reason).split())}', file=sys.stderr, flush=True)
  return code


def _tell(name: str, text: str, code: int) -> None:
  """Prints a text and leaves Python with an exit code."""
  try:
    _write(text)
  except errors.TrainingError as error:
    _leave(name, error, 1)
  sys.exit(code)


def _leave(name: str, reason: Any, code: int) -> None:
  sys.exit(_say(name, reason, code))
