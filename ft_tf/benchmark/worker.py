"""The worker process of one job: reads counts, answers with its figures."""

import json
import os
import resource
import sys
import time

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
      'peak_bytes': 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
      'bytes': _resident(),
    }
    print(json.dumps(figures), file=answers, flush=True)


def _make(job):
  # Only one framework is imported: two would compete for threads.
  if job.framework == 'pytorch':
    from ft_tf.benchmark import pytorch  # noqa: PLC0415

    return pytorch.make(job)
  from ft_tf.benchmark import parts  # noqa: PLC0415

  return parts.make(job)


def _resident() -> int:
  """Returns the bytes of memory that the process holds now."""
  with open('/proc/self/statm', encoding='utf-8') as file:
    return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


if __name__ == '__main__':
  main()
