"""TensorBoard's files of a run that continues: no step is in them twice."""

import os
import sys
from collections.abc import Iterator

import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from ft_tf import storage

# Logged at the end, whatever step a run continues from.
TEST = ('accuracy/test', 'loss/test')


def cut(folder: str, step: int) -> bool:
  """Removes what was logged after a step; tells whether something is left.

  Args:
    folder: Of the event files.
    step: The step that a run continues from; 0: it logs everything again.
  """
  left = False
  names = os.listdir(folder) if os.path.isdir(folder) else []
  for name in sorted(names):
    if 'tfevents' in name:
      path = os.path.join(folder, name)
      if not step and os.path.isfile(path):
        os.remove(path)
      else:
        left = _cut_file(path, step) or left
  return left


def _cut_file(path: str, step: int) -> bool:
  """Writes an event file again without later steps, if it has some."""
  events, whole = _read(path)
  kept = [event for event in events if _stays(event, step)]
  if not whole and os.path.isdir(path):
    storage.say_damaged(path, 'its curves are lost in TensorBoard')
    return False
  if not whole or len(kept) < len(events):
    with (
      storage.replacing(path) as temporary,
      tf.io.TFRecordWriter(temporary) as writer,
    ):
      for event in kept:
        writer.write(event.SerializeToString())
  return any(event.HasField('summary') for event in kept)


def _stays(event: event_pb2.Event, step: int) -> bool:
  is_test = any(value.tag in TEST for value in event.summary.value)
  return event.step <= step and not is_test


def _read(path: str) -> tuple[list[event_pb2.Event], bool]:
  """Returns the events of a file, and whether it is one to its end.

  A kill cuts the last event short; what follows on damage is not readable.
  """
  events = []
  try:
    for record in _records(path):
      events.append(event_pb2.Event.FromString(record))
  except Exception as error:  # TensorFlow's and protobuf's, of several classes.
    print(
      f'{path} is readable for {len(events)} events '
      f'({type(error).__name__}); those after them are lost in TensorBoard',
      file=sys.stderr,
      flush=True,
    )
    return events, False
  return events, True


def _records(path: str) -> Iterator[bytes]:
  return iter(tf.data.TFRecordDataset(path).as_numpy_iterator())
