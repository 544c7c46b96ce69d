"""What is timed, and the processes that do it.

Each job runs in a process of its own, since two frameworks in one would fight
over its threads. A process waits for a line `COUNT`, does its work that many
times and answers with a line of JSON; all others wait meanwhile.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import IO, Any, cast

from ft_tf import errors

STUDENT_IMAGES = 2560  # that the students of the end-to-end part train on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """A part of the work, and in which way it is done.

  Attributes:
    name: What the figures call it.
    framework: 'ours' or 'pytorch'.
    part: What to time; see `ours.parts` and `pytorch.PARTS`.
    precision: Keras's dtype policy; PyTorch's autocast for the mixed ones.
      'auto', of ours alone: what is fastest on this machine.
    batch_size: Images in a step.
    teacher: Network of the teacher.
    student: Network of the student.
    image_size: Height and width of the images.
    replicas: Devices; logical ones on a CPU.
    jit: Whether XLA compiles our step.
    channels_last: PyTorch's memory format; without it the teacher's graph is
      kept for a gradient too, as in the public script.
    compiled: Whether `torch.compile` compiles signal and loss.
    epochs: Of the students that are trained end to end.
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
  """The process of a job."""

  def __init__(self, job: Job, command: list[str] | None = None):
    """Starts it; `command` stands in for the real one in tests."""
    self.job = job
    self._errors = tempfile.TemporaryFile(mode='w+')
    self._process = subprocess.Popen(
      command or [sys.executable, '-m', 'ft_tf.benchmark.worker'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
    )
    # Pipes, as asked for; the types of Popen leave open whether there are any.
    self._input = cast(IO[str], self._process.stdin)
    self._output = cast(IO[str], self._process.stdout)
    self._send(json.dumps(dataclasses.asdict(job)))

  def run(self, count: int) -> dict[str, Any]:
    """Does the work `count` times.

    Returns:
      `seconds`, of all of them, `peak_bytes`, the most memory that the process
      has had, and `bytes`, what it has now.

    Raises:
      TrainingError: the process has died; the message has its last words.
    """
    self._send(str(count))
    line = self._output.readline()
    if not line:
      raise self._dead()
    return json.loads(line)

  def close(self) -> None:
    self._process.kill()
    self._process.wait()
    for stream in (self._input, self._output, self._errors):
      stream.close()

  def _send(self, line):
    try:
      self._input.write(line + '\n')
      self._input.flush()
    except BrokenPipeError as error:
      raise self._dead() from error

  def _dead(self):
    self._process.wait()
    self._errors.seek(0)
    last = [line for line in self._errors.read().splitlines() if line.strip()]
    return errors.TrainingError(
      f'{self.job.name} ended with code {self._process.returncode}: '
      + ' | '.join(last[-3:])
    )


def measure(
  jobs: Iterable[Job], *, rounds: int, steps: int
) -> dict[str, dict[str, Any]]:
  """Returns the figures of some jobs, timed in turn, round by round.

  Args:
    jobs: What to time, of different names.
    rounds: Turns of each job; what drifts in between hits all alike.
    steps: Steps in a turn.

  Returns:
    For each name: `images_per_second`, one value for each round,
    `peak_bytes` and `start_seconds`, of its first step with all compilation;
    or, if it died, `error`.
  """
  workers: list[Worker] = []
  figures: dict[str, dict[str, Any]] = {}
  try:
    for job in jobs:
      figures[job.name] = {'images_per_second': []}
      worker = Worker(job)
      workers.append(worker)
      _try(
        figures,
        worker,
        lambda worker=worker, job=job: figures[job.name].update(
          start_seconds=round(worker.run(1)['seconds'], 3)
        ),
      )
      _say(f'benchmark: {job.name} is ready')
    for turn in range(-1, rounds):  # the first warms up
      for worker in workers:
        figure = figures[worker.job.name]
        if 'error' in figure:
          continue
        ran = _try(figures, worker, lambda worker=worker: worker.run(steps))
        if ran and turn >= 0:
          images = steps * worker.job.batch_size
          figure['images_per_second'].append(images / ran['seconds'])
          figure['peak_bytes'] = ran['peak_bytes']
      _say(f'benchmark: round {turn + 1} of {rounds}')
  finally:
    for worker in workers:
      worker.close()
  return figures


def _try(figures, worker, action):
  """Returns an action's value; a dead worker's reason becomes its figure."""
  try:
    return action()
  except errors.TrainingError as error:
    figures[worker.job.name] = {'error': str(error)}
    _say(f'benchmark: {error}')
    return None


def _say(line):
  print(line, file=sys.stderr, flush=True)
