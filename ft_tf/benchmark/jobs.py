"""The jobs of the benchmark, and the worker processes that run them.

Each job runs in a separate process, because two frameworks in one process would
compete for its threads. A worker waits for a line `COUNT`, repeats its work
that many times and answers with a line of JSON. One worker works at a time.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import IO, Any, cast

from ft_tf import errors

STUDENT_IMAGES = 2560  # training images of the part `students`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """A part of the training to time, and its configuration.

  Attributes:
    name: The job's name in the figures.
    framework: 'ours' (ft_tf) or 'pytorch'.
    part: The part to time; see `parts.parts` and `pytorch.PARTS`.
    precision: Keras's dtype policy; PyTorch uses autocast for mixed policies.
      'auto' (ft_tf only): the fastest policy on this machine.
    batch_size: Images per step.
    teacher: Network name of the teacher.
    student: Network name of the student.
    image_size: Height and width of the images in pixels.
    replicas: Number of devices; logical devices on a CPU.
    jit: Whether XLA compiles the step (ft_tf only).
    channels_last: PyTorch's memory format. Without it PyTorch also keeps the
      teacher's graph for a gradient, as in the public script.
    compiled: Whether `torch.compile` compiles signal and loss.
    epochs: Epochs of each student of the part `students`.
  """

  name: str
  framework: str = 'ours'
  part: str = 'ft'
  precision: str = 'float32'
  batch_size: int = 128
  teacher: str = 'resnet56'
  student: str = 'resnet20'
  image_size: int = 32
  replicas: int = 1
  jit: bool = False
  channels_last: bool = True
  compiled: bool = False
  epochs: int = 1


class Worker:
  """The worker process of a job."""

  def __init__(self, job: Job, command: list[str] | None = None):
    """Starts the process; tests replace its `command`."""
    self.job = job
    self._errors = tempfile.TemporaryFile(mode='w+')
    self._process = subprocess.Popen(
      command or [sys.executable, '-m', 'ft_tf.benchmark.worker'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
    )
    # Both are pipes, which the types of Popen do not tell.
    self._input = cast(IO[str], self._process.stdin)
    self._output = cast(IO[str], self._process.stdout)
    self._send(json.dumps(dataclasses.asdict(job)))

  def run(self, count: int) -> dict[str, Any]:
    """Repeats the work `count` times.

    Returns:
      `seconds`, the time of all repetitions; `cpu_seconds`, that of all threads
      of the process together; `peak_bytes`, its peak memory; `bytes`, its
      memory now; and `file_bytes`, what of this are pages of files. These are
      above all the framework's libraries: processes share them, and where
      memory is scarce the system takes them back without writing anything.

    Raises:
      TrainingError: the process has died; the message ends with the last lines
        of its standard error.
    """
    self._send(str(count))
    line = self._output.readline()
    if not line:
      raise self._failure()
    return json.loads(line)

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.wait()
    for stream in (self._input, self._output, self._errors):
      stream.close()

  def _send(self, line):
    try:
      self._input.write(line + '\n')
      self._input.flush()
    except BrokenPipeError as error:
      raise self._failure() from error

  def _failure(self):
    self._process.wait()
    self._errors.seek(0)
    lines = [line for line in self._errors.read().splitlines() if line.strip()]
    return errors.TrainingError(
      f'{self.job.name} ended with code {self._process.returncode}: '
      + ' | '.join(lines[-3:])
    )


def measure(
  jobs: Iterable[Job], *, rounds: int, steps: int
) -> dict[str, dict[str, Any]]:
  """Times jobs in turn, round by round, and returns their figures.

  A machine that becomes slower slows down all jobs of a round, so that the
  ratios within a round stay comparable.

  Args:
    jobs: The jobs to time, with different names.
    rounds: Number of measurements of each job.
    steps: Steps per measurement.

  Returns:
    For each job name: `images_per_second` and `cpu_seconds`, of a step, one
    value per round; `peak_bytes` and `file_bytes`, as of `Worker.run`; and
    `start_seconds`, the time of the first step with all compilation. If the
    job's process died, only `error`.
  """
  workers: list[Worker] = []
  figures: dict[str, dict[str, Any]] = {}
  try:
    for job in jobs:
      figures[job.name] = {'images_per_second': [], 'cpu_seconds': []}
      worker = Worker(job)
      workers.append(worker)
      _try(
        figures,
        worker,
        lambda worker=worker, job=job: figures[job.name].update(
          start_seconds=round(worker.run(1)['seconds'], 3)
        ),
      )
      _log(f'benchmark: {job.name} is ready')
    for turn in range(-1, rounds):  # The first turn is a warm-up.
      for worker in workers:
        figure = figures[worker.job.name]
        if 'error' in figure:
          continue
        result = _try(figures, worker, lambda worker=worker: worker.run(steps))
        if result and turn >= 0:
          images = steps * worker.job.batch_size
          figure['images_per_second'].append(images / result['seconds'])
          figure['cpu_seconds'].append(result['cpu_seconds'] / steps)
          for name in ('peak_bytes', 'file_bytes'):
            figure[name] = result[name]
      _log(f'benchmark: round {turn + 1} of {rounds}')
  finally:
    for worker in workers:
      worker.close()
  return figures


def _try(figures, worker, action):
  """Returns the result of an action; records the error if the worker died."""
  try:
    return action()
  except errors.TrainingError as error:
    figures[worker.job.name] = {'error': str(error)}
    _log(f'benchmark: {error}')
    return None


def _log(line):
  print(line, file=sys.stderr, flush=True)
