"""The worker process of one job: reads counts, answers with its figures."""

import json
import os
import sys
import time

from ft_tf import lazy_imports
from ft_tf.benchmark import jobs


def main() -> None:
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # The output of a framework must not get among the answers.
  job = jobs.Job(**json.loads(sys.stdin.readline()))
  run = None
  for line in sys.stdin:
    start, cpu_start = time.perf_counter(), time.process_time()
    if run is None:
      run = _make(job)
    run(int(line))
    figures = {
      'seconds': time.perf_counter() - start,
      'cpu_seconds': time.process_time() - cpu_start,
      'peak_bytes': _memory('VmHWM'),
      'bytes': _memory('VmRSS'),
      'file_bytes': _memory('RssFile'),
    }
    print(json.dumps(figures), file=answers, flush=True)


def _make(job):
  # Only one framework is imported: two would compete for threads.
  if job.framework == 'pytorch':
    from ft_tf.benchmark import pytorch  # noqa: PLC0415

    return pytorch.make(job)
  # As a command does, which trains in less memory for it.
  lazy_imports.start()
  from ft_tf.benchmark import parts  # noqa: PLC0415

  lazy_imports.finish()
  return parts.make(job)


def _memory(name: str) -> int:
  """Returns an entry of Linux's status of this process, in bytes.

  Not `ru_maxrss`, which starts at the memory of the process that started this.
  """
  with open('/proc/self/status', encoding='utf-8') as file:
    fields = dict(line.split(':', 1) for line in file)
  return 1024 * int(fields[name].split()[0])


if __name__ == '__main__':
  main()
