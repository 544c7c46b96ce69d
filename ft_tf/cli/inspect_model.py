"""Lists the layers of a model that can be distilled.

  ft-tf inspect --model=teacher.keras

Each line has the layer's name for --teacher_layer or --student_layer, its map
(height, width, channels), the share of the parameters up to it, and its other
names: auto, the last map, or -1, -2, ..., the last of each size. --all lists
every map, otherwise only the last of each size. A model of any image size is
shown for 224x224. Of an .onnx file, which a teacher may be, the layers are the
tensors in its graph.
"""

import dataclasses

from absl import flags

from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.models import (
  checks,
  layer_choice,
  model_files,
  onnx_models,
  standard,
)
from ft_tf.report import tables

_SIZE = 224  # pixels of the images that a model of any size is shown for


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_model(values, '.keras or .onnx file')
  flag_sets.define(
    values, flag_sets.OTHER, 'all', False, 'list every feature map'
  )


def run(values: flags.FlagValues) -> outcome.Outcome:
  model = model_files.load(settings.required(values, 'model'))
  checks.check_classifier(model, f'--model={values.model}')
  height, width, channels = model.input_shape[1:]
  model, notes = standard.standardize(
    model, image_shape=(height or _SIZE, width or _SIZE, channels or 3)
  )
  maps = layer_choice.candidates(model)
  shown = [m for m in maps if values.all or m.called]
  lines = [
    [
      each.layer,
      'x'.join(map(str, each.shape)),
      f'{100 * each.share:.1f} %',
      ', '.join(each.called),
    ]
    for each in shown
  ]
  table = tables.to_markdown(
    ['layer', 'map', 'parameters up to it', 'or'], lines
  )
  kind = onnx_models.describe(model)
  return outcome.Outcome(
    {'layers': [dataclasses.asdict(each) for each in shown]},
    '\n'.join([table, *([kind] if kind else []), *notes]),
  )
