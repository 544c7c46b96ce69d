"""What a command shows on standard error: a line that moves, or plain lines."""

import contextlib
import dataclasses
import datetime
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ft_tf import errors
from ft_tf.progress import plan as plans
from ft_tf.progress import rendering, screen

MODES = ('auto', 'bar', 'lines', 'off')
_SECONDS_BETWEEN_LINES = 9.0
_SECONDS_BETWEEN_BEATS = 0.5


def check_mode(mode: str) -> None:
  """Raises `UsageError` if it is none of `MODES`."""
  if mode not in MODES:
    raise errors.UsageError(
      f'--progress={mode}: give {", ".join(MODES[:-1])} or {MODES[-1]}'
    )


class Progress:
  """The progress of one command, over all its parts.

  It is made by what knows the parts, and handed down to the stages. A stage
  that is run alone is the only part of its command.
  """

  def __init__(
    self,
    parts: Sequence[plans.Part] = (),
    *,
    mode: str = 'auto',
    estimates: bool = True,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Reads what earlier calls of the command have left.

    Args:
      parts: The parts, in their order. A run of another folder has no place
        among them.
      mode: 'bar': one line that is drawn again and again; 'lines': lines with
        the time of day, also for logs; 'off': nothing but messages; 'auto': a
        bar on a terminal that has a width, otherwise lines.
      estimates: Whether the time of all parts is estimated: not where several
        processes run them.
      clock: Returns seconds.
    """
    check_mode(mode)
    self.mode = mode
    if mode == 'auto':
      self.mode = 'bar' if screen.moves() else 'lines'
    self.clock = clock
    self.times = plans.Clock(parts)
    self.estimates = estimates
    self._screen = screen.Screen()
    self._told: set[str] = set()
    self._rough: bool | None = None

  def announce(self) -> None:
    """Prints the plan, if there are several parts."""
    if self.mode != 'off':
      for line in self.times.describe():
        self.say(line)

  def time_left(self, running: str = '') -> plans.TimeLeft | None:
    """Returns the time that all parts still take; None if it is not known.

    Args:
      running: As of `plan.Clock.time_left`.
    """
    if not self.estimates or len(self.times.parts) < 2:
      return None
    return self.times.time_left(running)

  def say(self, line: str) -> None:
    """Prints a line that stays, above the bar if there is one."""
    self._screen.say(line)

  def say_once(self, line: str, prefix: str = '') -> None:
    """Prints a line, unless this command has printed it before."""
    if line not in self._told:
      self._told.add(line)
      self.say(prefix + line)

  def show(self, state: rendering.State) -> None:
    """Draws the bar; in other modes nothing."""
    if self.mode == 'bar':
      self._screen.draw(rendering.render_bar(state, self._screen.room))

  def say_epoch(self, state: rendering.State, seconds: float) -> None:
    """Prints the line of an epoch that stays above the bar."""
    if self.mode == 'bar':
      self.say(rendering.render_epoch(state, seconds, self._screen.room))

  def tell_time(self, left: plans.TimeLeft | None) -> None:
    """Prints the time of all parts when it is first known, and when surely."""
    if self.mode == 'off' or left is None:
      return
    if left.rough == self._rough or self._rough is False:
      return
    again, self._rough = self._rough is not None, left.rough
    line = f'time: {rendering.describe_time(left.seconds)} of training left'
    if left.rough:
      kinds = f'kind{"s" if left.not_measured > 1 else ""} of part'
      line += f' (rough: {left.not_measured} {kinds} not measured yet)'
    elif again:
      line += ' (every kind of part is measured)'
    self.say(line)

  @contextlib.contextmanager
  def part(self, path: str, name: str) -> Iterator['Running']:
    """Yields what a part reports to.

    Args:
      path: The folder of its run.
      name: What it is called if it is none of the command's parts.
    """
    running = Running(self, path, name)
    alone = self.estimates and self.mode != 'bar'
    with (
      contextlib.nullcontext() if alone else self._screen.shared(running.origin)
    ):
      try:
        with running.beating():
          yield running
      finally:
        # Also a part that failed takes no more time.
        self.times.complete(path)


class Running:
  """A part that is running, which reports how far it is."""

  def __init__(self, progress: Progress, path: str, name: str):
    """Begins with the time that it takes to build its networks."""
    self._progress = progress
    self._path = path
    self._begun = progress.clock()
    place = progress.times.place(path)
    parts = progress.times.parts
    self._state = rendering.State(
      name=parts[place - 1].name if place else name,
      part=place or 1,
      parts=len(parts) if place else 1,
    )
    self._steps = 0
    self._first_step = 0
    self._compiled: float | None = None
    self._pace: plans.Pace | None = None
    self._last_line = self._begun
    self._lock = threading.Lock()  # of the time of the last line
    self._show(status='preparing')

  def say(self, line: str) -> None:
    """Prints a message about the part."""
    self._progress.say(self.origin + line)

  def say_once(self, line: str) -> None:
    """Prints a message, unless the command has printed the same before."""
    self._progress.say_once(line, self.origin)

  def status(self, status: str) -> None:
    """Shows what it does instead of training; '' while it trains.

    A log gets it if nothing was said for a while.
    """
    self._show(status=status)
    self._log_after_a_while()

  def announce(self, status: str) -> None:
    """Shows what it does, in a log too."""
    self._show(status=status)
    if self._progress.mode == 'lines':
      self._stamp(rendering.render_line(self._state))

  def step(self, name: str) -> Callable[[str], None]:
    """Announces one of several things to do; returns what shows its status."""
    self.announce(name)
    return lambda status: self.status(f'{name}: {status}')

  def start(self, *, step: int, steps: int, epochs: int) -> None:
    """Begins the steps, with one that compiles.

    Args:
      step: Steps that an earlier call has done.
      steps: Steps in all.
      epochs: Epochs in all.
    """
    self._steps, self._first_step = steps, step
    share = step / steps
    self._state = dataclasses.replace(
      self._state,
      epoch=min(math.floor(share * epochs) + 1, epochs),
      epochs=epochs,
      share=share,
    )
    if step and self._progress.mode != 'off':
      self._progress.say(
        f'{self._prefix()}: continues at step {step:,} of {steps:,}'
      )
    if step < steps:
      self.announce('compiling')

  @contextlib.contextmanager
  def beating(self) -> Iterator[None]:
    """Lets a log have a line now and then, in a block, whatever takes long.

    To compile a large network, or to evaluate it, is a minute without a word
    from the thread that does it.
    """
    if self._progress.mode != 'lines':
      yield
      return
    ended = threading.Event()

    def beat():
      while not ended.wait(_SECONDS_BETWEEN_BEATS):
        # Standard error may be closed, or be another's, in this moment.
        with contextlib.suppress(OSError, ValueError):
          self._log_after_a_while()

    thread = threading.Thread(target=beat, name='progress', daemon=True)
    thread.start()
    try:
      yield
    finally:
      ended.set()
      thread.join()

  def compiled(self) -> None:
    """The first step is over."""
    self._compiled = self._progress.clock()
    self._show(status='')

  def stepped(self, step: int) -> None:
    """Shows how far it is between rows, which may be a minute apart."""
    self._state = dataclasses.replace(self._state, share=step / self._steps)
    self._estimate(step, self._progress.clock())
    self._log_after_a_while()
    self._show()

  def row(self, row: dict[str, Any], *, ends_epoch: bool = False) -> None:
    """Shows a row of metrics, with the time that is left.

    Args:
      row: As of `metrics.jsonl`.
      ends_epoch: Whether it is the last of its epoch: it stays above the bar.
    """
    progress, now, step = self._progress, self._progress.clock(), row['step']
    done = math.floor(row['epoch'])
    self._state = dataclasses.replace(
      self._state,
      status='',
      epoch=min(done + (not ends_epoch), self._state.epochs),
      share=step / self._steps,
      loss=row.get('loss'),
      accuracy=row.get('validation_accuracy', self._state.accuracy),
      validation_loss=row.get(
        'validation_reconstruction', self._state.validation_loss
      ),
      images_per_second=row['images_per_second'],
    )
    self._estimate(step, now)
    if ends_epoch:
      progress.say_epoch(self._state, now - self._begun)
    if progress.mode == 'lines':
      if step == self._steps:
        self._last_line = now
        self._stamp(rendering.render_epoch(self._state, now - self._begun))
      else:
        self._log_after_a_while()
    self._show(epoch=min(done + 1, self._state.epochs))

  def end(self, figures: str) -> None:
    """Prints what the part has come to, and takes its whole time."""
    seconds = self._progress.clock() - self._begun
    if self._pace is not None:
      stepping = self._pace.step * (self._steps - self._first_step)
      pace = plans.Pace(max(seconds - stepping, 0.0), self._pace.step)
      self._progress.times.measure(self._path, pace, self._steps)
    if self._progress.mode != 'off':
      time_text = rendering.format_time(seconds)
      self._progress.say(f'{self._prefix()}: {figures}, {time_text}')

  def _estimate(self, step: int, now: float) -> None:
    """Takes the pace of the steps after the one that compiled."""
    progress = self._progress
    measured = step - self._first_step - 1
    if self._compiled is None or measured < 1:
      return
    pace = self._pace = plans.Pace(
      fixed=self._compiled - self._begun,
      step=(now - self._compiled) / measured,
    )
    progress.times.measure(self._path, pace, step)
    left = progress.time_left(self._path)
    self._state = dataclasses.replace(
      self._state,
      seconds_left=(self._steps - step) * pace.step,
      all_seconds_left=left.seconds if left else None,
      rough=left is not None and left.rough,
    )
    progress.tell_time(left)

  def _log_after_a_while(self) -> None:
    """Prints a line in a log if the one before is long ago."""
    now = self._progress.clock()
    with self._lock:
      if (
        self._progress.mode == 'lines'
        and now - self._last_line >= _SECONDS_BETWEEN_LINES
      ):
        self._last_line = now
        self._stamp(rendering.render_line(self._state))

  def _show(self, **changes: Any) -> None:
    self._state = dataclasses.replace(self._state, **changes)
    self._progress.show(self._state)

  def _stamp(self, line: str) -> None:
    self._progress.say(f'{datetime.datetime.now():%H:%M:%S} {line}')

  @property
  def prints_lines(self) -> bool:
    """Whether it is shown by lines, among which others' lines can stand."""
    return self._progress.mode == 'lines'

  @property
  def origin(self) -> str:
    """What tells the messages of several processes apart; '' in one alone."""
    return '' if self._progress.estimates else f'{self._prefix()}: '

  def _prefix(self) -> str:
    state = self._state
    place = f'[{state.part}/{state.parts}] ' if state.parts > 1 else ''
    return place + state.name
