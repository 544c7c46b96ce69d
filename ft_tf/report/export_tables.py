"""Tables of an export folder's files: what they are worth, and what they take.

They are made of `export.json`, and of `latency.json` and `layers.json` where
these are there; a figure that an older version has not written is '-'.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

MISSING = '-'
_MOST_LAYERS = 5
_LONGEST_NAME = 40


class Table(NamedTuple):
  """A table of text cells, as many in each row as in the header."""

  header: list[str]
  rows: list[list[str]]


def summarise(
  export: Mapping[str, Any], measured: Mapping[str, Any] | None
) -> Table:
  """Returns what each file is worth on the test images, and what it takes.

  Args:
    export: The content of `export.json`.
    measured: As of `latency`.
  """
  return Table(
    [
      'file',
      'bytes',
      'accuracy %',
      'agreement %',
      'worst class',
      'mean difference',
      'largest difference',
      'ms p50',
      'input',
      'output',
    ],
    [
      [
        name,
        f'{entry["bytes"]:,}',
        f'{100 * entry["accuracy"]:.2f}',
        f'{100 * entry["agreement"]:.2f}',
        _worst_class(entry.get('worst_class')),
        _number(entry.get('mean_logit_difference'), '.2g'),
        _number(entry.get('max_logit_difference'), '.2g'),
        _number(_median(name, entry, measured), '.3f'),
        entry.get('input_dtype', MISSING),
        entry.get('output_dtype', MISSING),
      ]
      for name, entry in export.items()
    ],
  )


SUMMARY_NOTE = (
  'Agreement: share of test images with the same top class as the Keras '
  'student. Worst class: the one that loses most accuracy, with its change in '
  'points. Differences: of logits, to those of the Keras student. ms p50: '
  'median time for one image with one thread.'
)


def _median(
  name: str, entry: Mapping[str, Any], measured: Mapping[str, Any] | None
) -> float | None:
  """Returns a file's median time with one thread, in milliseconds."""
  timing = entry.get('latency_ms')
  if measured is not None:
    timing = measured['files'].get(name, {}).get('1')
  return timing['p50'] if timing else None


def _worst_class(worst: Mapping[str, Any] | None) -> str:
  """Returns the class that loses most, with its change in points."""
  if worst is None:
    return MISSING
  change = -100 * worst['drop']
  signed = f'{change:+.1f}' if round(change, 1) else '0.0'
  label = _short(worst['label'])
  return f'{label}: {100 * worst["accuracy"]:.1f} % ({signed})'


def tensors(export: Mapping[str, Any]) -> Table:
  """Returns the input and output of each file that a device runs.

  Args:
    export: The content of `export.json`.
  """
  return Table(
    ['file', 'input', 'output'],
    [
      [name, _tensor(entry['input']), _tensor(entry['output'])]
      for name, entry in export.items()
      if 'input' in entry and 'output' in entry
    ],
  )


def _tensor(tensor: Mapping[str, Any]) -> str:
  """Returns dtype, shape and quantisation of an input or output."""
  shape = ', '.join('any' if n is None else str(n) for n in tensor['shape'])
  text = f'{tensor["dtype"]} [{shape}]'
  if not tensor.get('scale'):
    return text
  return (
    f'{text}, scale {tensor["scale"]:.6g}, zero point {tensor["zero_point"]}'
  )


def latency(
  export: Mapping[str, Any], measured: Mapping[str, Any] | None
) -> Table:
  """Returns how long the files take for one image.

  Args:
    export: The content of `export.json`, whose files were measured one by one
      with one thread.
    measured: The content of `latency.json`, where all files and the teacher
      were measured in turn, with several numbers of threads; None if there is
      no such file.
  """
  if measured is None:
    return Table(
      ['file', 'ms p50', 'p90', 'p99', 'threads'],
      [
        [name, *_milliseconds(timing), str(timing['threads'])]
        for name, entry in export.items()
        if (timing := entry.get('latency_ms'))
      ],
    )
  counts = [str(count) for count in measured['threads']]
  files = dict(measured['files'])
  if measured.get('teacher'):
    files['teacher, float32'] = measured['teacher']
  header = ['file']
  for count in counts:
    thread = 'thread' if count == '1' else 'threads'
    header += [f'ms p50, {count} {thread}', 'p90', 'p99', 'first run']
  return Table(
    [*header, 'arena, KiB', 'process, KiB'],
    [
      [
        name,
        *(
          cell
          for count in counts
          for cell in (
            *_milliseconds(entry.get(count) or {}),
            _number((entry.get(count) or {}).get('first_ms'), '.1f'),
          )
        ),
        _kibibytes(entry.get('arena_bytes')),
        _kibibytes(entry.get('peak_bytes')),
      ]
      for name, entry in files.items()
    ],
  )


def latency_note(
  measured: Mapping[str, Any] | None, environments: list[Any] | None
) -> str:
  """Returns how and on which machine the latency was measured.

  Args:
    measured: As of `latency`.
    environments: The content of `environment.json`, whose last command made
      the export; None if there is no such file.
  """
  if measured is None:
    machine = environments[-1]['machine'] if environments else ''
    on = f' on {machine}' if machine else ' on the machine that exported'
    return f'Time for one image with one thread{on}.'
  processor = measured['processor']
  cores = processor.get('cores')
  name = processor.get('name') or 'an unknown processor'
  if cores:
    name += f', {cores} {"core" if cores == 1 else "cores"}'
  features = processor.get('features')
  if features:
    name += f' ({", ".join(features)})'
  return (
    'Time for one image; all files were measured in turn. First run: the first '
    'one after loading. Arena: memory of the activations. Process: growth of a '
    f'process that loads the file and runs it. Processor: {name}. Fastest with '
    f'{measured["threads"][0]} thread: {measured["fastest"]}.'
  )


def _milliseconds(timing: Mapping[str, Any]) -> list[str]:
  return [_number(timing.get(key), '.3f') for key in ('p50', 'p90', 'p99')]


def _kibibytes(count: int | None) -> str:
  return MISSING if count is None else f'{count / 1024:,.0f}'


def _number(value: float | None, form: str) -> str:
  return MISSING if value is None else format(value, form)


def layers(studied: Mapping[str, Any] | None) -> Table:
  """Returns the layers that lose most in int8, one by one.

  Args:
    studied: The content of `layers.json`; None if there is no such file.
  """
  rows = studied['layers'][:_MOST_LAYERS] if studied else []
  return Table(
    [
      'layer',
      'alone in int8: agreement %',
      'mean difference',
      'all others in int8: agreement %',
      'mean difference',
    ],
    [
      [
        _short(row['layer']),
        *(
          cell
          for loss in (row['only_quantised'], row['only_float'])
          for cell in (
            f'{100 * loss["agreement"]:.2f}',
            f'{loss["mean_logit_difference"]:.2g}',
          )
        ),
      ]
      for row in rows
    ],
  )


def layers_note(studied: Mapping[str, Any]) -> str:
  """Returns on what the layers were studied, and what would repair the loss.

  Args:
    studied: The content of `layers.json`.
  """
  note = (
    f'On {studied["examples"]:,} images, by simulation: the '
    f'{min(_MOST_LAYERS, len(studied["layers"]))} of '
    f'{len(studied["layers"])} layers that lose most. Agreement and mean '
    'difference of logits: with the student in float. With all layers in int8, '
    f'agreement is {100 * studied["quantised"]["agreement"]:.2f} %'
  )
  repair = studied['repair']
  if not repair:
    return f'{note}.'
  listed = ', '.join(_short(name) for name in repair[:_MOST_LAYERS])
  more = len(repair) - _MOST_LAYERS
  return (
    f'{note}; with {listed}{f" and {more} more" * (more > 0)} left in float, '
    f'{100 * studied["repaired"]["agreement"]:.2f} %.'
  )


def _short(name: str) -> str:
  return name if len(name) <= _LONGEST_NAME else f'{name[: _LONGEST_NAME - 1]}…'
