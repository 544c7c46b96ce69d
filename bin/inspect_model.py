#!/usr/bin/env python3
"""Lists the layers of a model whose feature maps can be transferred.

  bin/inspect_model.py --model=teacher.keras

Each line has the layer's name for --teacher_layer or --student_layer, its map
(height, width, channels), the share of the parameters up to it, and what else
it is called: auto, the last map, or -1, -2, ..., the last of each size. --all
shows every map, otherwise only the last of each size. A model of any image size
is shown for 224x224. The last line of output is JSON.
"""

import dataclasses
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf.models import checks, layer_choice, model_files, standard
from ft_tf.report import tables

flags.DEFINE_string('model', None, '.keras file (required)')
program.define_loading()
flags.DEFINE_bool('all', False, 'list every feature map (default: False)')


_SIZE = 224  # pixels of the images that a model of any size is shown for


def main():
  model = model_files.load(program.required('model'))
  checks.check_classifier(model, f'--model={flags.FLAGS.model}')
  height, width, channels = model.input_shape[1:]
  model, said = standard.standardize(
    model, image_shape=(height or _SIZE, width or _SIZE, channels or 3)
  )
  maps = layer_choice.candidates(model)
  shown = [m for m in maps if flags.FLAGS.all or m.called]
  header = ['layer', 'map', 'parameters up to it', 'or']
  lines = [
    [
      each.layer,
      'x'.join(map(str, each.shape)),
      f'{100 * each.share:.1f} %',
      ', '.join(each.called),
    ]
    for each in shown
  ]
  print(tables.to_markdown(header, lines))
  for line in said:
    print(line)
  return {'layers': [dataclasses.asdict(each) for each in shown]}


if __name__ == '__main__':
  program.run(main)
