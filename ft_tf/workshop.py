"""What students are trained with, in this process or in one made for it."""

import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import tensorflow as tf

from ft_tf import (
  arms,
  errors,
  exporting,
  knowledge,
  run_dir,
  teachers,
)
from ft_tf.data import datasets
from ft_tf.models import keras_settings, model_files
from ft_tf.progress import plan, reporter
from ft_tf.signals import cache
from ft_tf.training import loop, paraphraser, programs, strategy, student


@dataclasses.dataclass(frozen=True)
class Workshop:
  """How to make a `Bench`; it can be sent to another process.

  Attributes:
    open_dataset: Returns the images.
    options: Intervals.
    num_replicas: As of `strategy.make`.
    signal_cache: Where the teacher's signals are kept, as of `cache.Store`.
    signal_cache_gib: What they may take.
    allow_unsafe_model: Whether models may run code, as of
      `model_files.allow_unsafe`.
  """

  open_dataset: Callable[[], datasets.Dataset]
  options: loop.Options
  num_replicas: int = 0
  signal_cache: str = 'off'
  signal_cache_gib: float = 8.0
  allow_unsafe_model: bool = False


@dataclasses.dataclass(frozen=True)
class Order:
  """One student to train, in words that another process understands.

  Attributes:
    task: The arm at its seed.
    teacher: The teacher's `.keras` file.
    paraphrasers: Those of its paraphrasers, one for each pair of layers.
    folder: Of the student's run.
  """

  task: arms.Task
  teacher: str
  paraphrasers: Sequence[str]
  folder: str


class Bench:
  """A process's means to train students: files are opened once in it.

  Attributes:
    dataset: The images.
    progress: As of `stage.run_stage`.
  """

  def __init__(
    self,
    workshop: Workshop,
    devices: tf.distribute.Strategy,
    dataset: datasets.Dataset,
    *,
    teacher: teachers.Teacher | None = None,
    paraphrasers: Sequence[paraphraser.TrainedParaphraser] = (),
    progress: reporter.Progress | None = None,
  ):
    """Opens the store of signals.

    Args:
      workshop: Intervals and the store's place.
      devices: The devices.
      dataset: The images.
      teacher: The teacher if it is loaded already.
      paraphrasers: Those that are loaded already.
      progress: As of `stage.run_stage`.
    """
    self._options = workshop.options
    self.progress = progress
    self._devices = devices
    self.dataset = dataset
    self._signals = cache.Store(
      workshop.signal_cache, budget_gib=workshop.signal_cache_gib
    )
    self._programs = programs.Programs()
    self._teachers = {teacher.path: teacher} if teacher else {}
    self._paraphrasers = {each.path: each for each in paraphrasers}

  def train(self, order: Order) -> str:
    """Trains a student; returns what went wrong, or ''."""
    task, run = order.task, run_dir.RunDir(order.folder)
    try:
      teacher = self._teacher(order.teacher)
      paraphrasers = [self._paraphraser(p) for p in order.paraphrasers]
      student.train_student(
        task.recipe,
        self.dataset,
        run=run,
        strategy=self._devices,
        options=self._options,
        teacher=teacher,
        paraphrasers=paraphrasers,
        signals=self._signals,
        label=task.arm,
        progress=self.progress,
        compiled=self._programs,
      )
      knowledge.look(
        run,
        task.recipe,
        self.dataset,
        teacher=teacher,
        paraphrasers=paraphrasers,
      )
    except errors.WorkerError:
      raise  # Nothing more can be trained.
    except (errors.UsageError, errors.TrainingError) as error:
      _print(f'{task.name} failed: {error}')
      return str(error)
    except Exception as error:  # One run must not take the others with it.
      _print(f'{task.name} failed:\n{traceback.format_exc()}')
      return f'{type(error).__name__}: {error}'
    return ''

  def _teacher(self, path: str) -> teachers.Teacher:
    if path not in self._teachers:
      self._teachers[path] = teachers.load(path, self.dataset)
    return self._teachers[path]

  def _paraphraser(self, path: str) -> paraphraser.TrainedParaphraser:
    if path not in self._paraphrasers:
      self._paraphrasers[path] = paraphraser.load(path)
    return self._paraphrasers[path]


_bench: Bench  # of a process that was started by `open_bench`


def open_bench(
  workshop: Workshop, jobs: int, planned: Sequence[plan.Part] = ()
) -> None:
  """Makes this process's bench.

  Args:
    workshop: How it is made.
    jobs: The processes that share the CPU.
    planned: All parts of the command, of which this process runs some; it
      prints lines, since the bars of several processes would mix.
  """
  global _bench
  keras_settings.use_defaults()
  if workshop.allow_unsafe_model:
    model_files.allow_unsafe()
  if jobs > 1:
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
  # Notes on tracing, as commands silence them; a process starts with them.
  tf.get_logger().setLevel('ERROR')
  shown = 'off' if workshop.options.progress == 'off' else 'lines'
  _bench = Bench(
    workshop,
    strategy.make(workshop.num_replicas),
    workshop.open_dataset(),
    progress=reporter.Progress(planned, mode=shown, estimates=False),
  )


def train(order: Order) -> str:
  """Trains a student at this process's bench; see `Bench.train`."""
  return _bench.train(order)


def export(path: str) -> None:
  """Exports the network of a run's folder, if it converts."""
  assert _bench.progress is not None
  name = f'export of {os.path.basename(path)}'
  with _bench.progress.part(path, name) as part:
    exporting.export_compared(
      run_dir.RunDir(path),
      _bench.dataset,
      status=part.status,
    )


def _print(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
