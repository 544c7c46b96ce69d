"""What messages call things in Python, where there are no flags."""

import contextlib
import re
from collections.abc import Iterator

from ft_tf import errors

# What flags in messages are called, in this order.
_WORDS = {
  r'give --allow_unsafe_model': (
    'call keras.config.enable_unsafe_deserialization()'
  ),
  r'--image_size=(\d+x\d+)': r'images of \1',
  r'--image_size=(\d+)': r'images of \1x\1',
  r'--image_size': 'size of the images',
  r'--dataset': 'train and test',
  r'--channels': 'number of channels',
  r'--num_replicas': 'number of devices',
  r'(?<![\w-])--(?=[a-z]\w*)': '',
}


@contextlib.contextmanager
def in_messages() -> Iterator[None]:
  """Turns the flags in messages into the arguments that stand for them."""
  try:
    yield
  except (errors.UsageError, errors.TrainingError) as error:
    text = ' '.join(str(error).splitlines())
    for pattern, words in _WORDS.items():
      text = re.sub(pattern, words, text)
    raise type(error)(text) from error
