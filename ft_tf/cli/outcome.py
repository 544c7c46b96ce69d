"""What a command ends with."""

import dataclasses
from typing import Any

from ft_tf import run_dir
from ft_tf.cli import help_text
from ft_tf.report import tables


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result of a command.

  Attributes:
    values: What a program reads, as JSON values.
    text: What a person reads.
  """

  values: dict[str, Any]
  text: str = ''


def recipes_outcome() -> Outcome:
  """Returns the table of recipes."""
  rows = help_text.recipe_rows()
  table = tables.to_markdown(
    ['recipe', 'teacher', 'student', 'epochs'],
    [
      [
        row['recipe'],
        row['teacher'] or 'yours',
        row['student'],
        '+'.join(str(epochs) for epochs in row['epochs'].values()),
      ]
      for row in rows
    ],
  )
  note = 'Epochs: of the teacher, the paraphraser and each student.'
  return Outcome({'recipes': rows}, f'{table}\n\n{note}')


def stage_outcome(run: run_dir.RunDir, result: dict[str, Any]) -> Outcome:
  """Returns the result of a stage's run."""
  text = f'Model:  {run.model}'
  if 'accuracy' in result:
    text = f'{format_accuracy(result)}\n{text}'
  return Outcome(result, text)


def format_accuracy(scores: dict[str, Any]) -> str:
  """Returns the figures of `metrics.evaluate` for a person."""
  return (
    f'accuracy {100 * scores["accuracy"]:.2f} %, loss {scores["loss"]:.4f}, '
    f'{scores["examples"]:,} test images'
  )
