"""What the folders of a comparison say."""

import os


def write(run, failures):
  rows = {}
  folder = run.child('runs').path
  for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
    result = run.child(f'runs/{name}').read('result.json')
    if result:
      rows.setdefault(result['method'], []).append(result['accuracy'])
  found = {
    'rows': [{'method': k, 'accuracies': v} for k, v in rows.items()],
    'failures': failures,
  }
  run.write('comparison.json', found)
  return found
