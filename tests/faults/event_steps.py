"""What TensorBoard would read of a run, by tag."""

import collections
import os

from tensorboard.backend.event_processing import event_file_loader


def by_tag(folder: str) -> dict[str, list[int]]:
  """Returns the steps of each tag, in the order of files and events."""
  steps = collections.defaultdict(list)
  for name in sorted(os.listdir(folder)):
    loader = event_file_loader.EventFileLoader(os.path.join(folder, name))
    for event in loader.Load():
      for value in event.summary.value:
        steps[value.tag].append(event.step)
  return steps
