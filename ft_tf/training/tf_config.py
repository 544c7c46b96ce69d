"""The machines that the variable TF_CONFIG names, and how they meet."""

import dataclasses
import json
import math
import os
import re
import socket
import sys
import time

from ft_tf import errors

VARIABLE = 'TF_CONFIG'
_FORM = (
  'give {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", '
  '"index": 0}}, with the index of this machine'
)
_KINDS = ('chief', 'worker')  # in the order of the workers
_ADDRESS = re.compile(r'[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}')
_MOST_PORT = 65535
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_CALLS = 0.2


@dataclasses.dataclass(frozen=True)
class Workers:
  """What TF_CONFIG says.

  Attributes:
    addresses: HOST:PORT of each worker, the chief first.
    tasks: TensorFlow's name of each, such as `('worker', 0)`.
    index: Which of them this process is.
  """

  addresses: tuple[str, ...]
  tasks: tuple[tuple[str, int], ...]
  index: int

  @property
  def name(self) -> str:
    """What messages call this process."""
    return f'worker {self.index} of {len(self.addresses)}'


def read() -> Workers | None:
  """Returns what TF_CONFIG says; None: this machine works alone.

  Raises:
    UsageError: it is no such text.
  """
  text = os.environ.get(VARIABLE, '').strip()
  if not text:
    return None
  try:
    given = json.loads(text)
    cluster, task = given.get('cluster') or {}, given.get('task') or {}
    jobs = {kind: list(cluster[kind]) for kind in _KINDS if kind in cluster}
    own = (str(task.get('type', '')), int(task.get('index', 0)))
    others = cluster.keys() - set(_KINDS)
  except (ValueError, TypeError, AttributeError) as error:
    raise errors.UsageError(
      f'{VARIABLE} cannot be read ({error}): {_FORM}'
    ) from error
  if not jobs and not others:
    return None
  tasks = [(kind, i) for kind in jobs for i in range(len(jobs[kind]))]
  addresses = [str(address) for kind in jobs for address in jobs[kind]]
  if others:
    raise errors.UsageError(
      f'{VARIABLE} names the jobs {", ".join(sorted(others))}: leave out all '
      f'but {" and ".join(_KINDS)}'
    )
  wrong = [
    each
    for each in addresses
    if not _ADDRESS.fullmatch(each) or _port(each) > _MOST_PORT
  ]
  if wrong or len(set(addresses)) < len(addresses):
    raise errors.UsageError(
      f'{VARIABLE} has the workers {", ".join(addresses)}: give each its own '
      'HOST:PORT'
    )
  if own not in tasks:
    raise errors.UsageError(
      f'{VARIABLE} says that this machine is {own[0] or "of no type"} '
      f'{own[1]}, which its cluster does not name: {_FORM}'
    )
  if len(tasks) == 1:
    return None
  return Workers(tuple(addresses), tuple(tasks), tasks.index(own))


def ignore() -> None:
  """Has this process work alone, whatever TF_CONFIG says."""
  os.environ.pop(VARIABLE, None)


def meet(workers: Workers) -> None:
  """Waits until every worker listens at its address.

  TensorFlow waits as well, but so that no signal reaches this process.

  Raises:
    UsageError: this worker cannot listen.
  """
  own = workers.addresses[workers.index]
  role = ' (the chief)' if not workers.index else ''
  missing = [address for address in workers.addresses if address != own]
  with _listen(own):
    said = -math.inf
    while missing:
      if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
        said = time.monotonic()
        _say(f'{workers.name}{role} waits for {", ".join(missing)}')
      missing = [address for address in missing if not _listens(address)]
      time.sleep(_SECONDS_BETWEEN_CALLS)


def _listen(address: str) -> socket.socket:
  """Returns a socket that listens at the port of an address."""
  port = _port(address)
  dual = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if dual else socket.AF_INET
  try:
    return socket.create_server(('', port), family=family, dualstack_ipv6=dual)
  except OSError as error:
    raise errors.UsageError(
      f'this worker cannot listen at {address} ({error.strerror}): give a free '
      'port'
    ) from error


def _port(address: str) -> int:
  return int(address.rpartition(':')[2])


def _listens(address: str) -> bool:
  host, _, port = address.rpartition(':')
  try:
    socket.create_connection((host.strip('[]'), int(port)), timeout=1).close()
  except OSError:
    return False
  return True


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
