"""Damaged ONNX teachers, and damaged files of weights, read by every command.

`FT_TF_FAULTS_CASES` is their number, `FT_TF_FAULTS_SEED` draws others.
"""

import dataclasses
import os
import shlex
import shutil

import numpy as np
import pytest
from absl.testing import absltest
from hypothesis import strategies as st

from tests import onnx_graphs
from tests.faults import fuzz_inputs, fuzzing, mutations

_CASES = int(os.environ.get('FT_TF_FAULTS_CASES', '480'))
_FILES = 'inputs/cnn.onnx', 'inputs/small.onnx', 'inputs/beside.onnx'
_DATA = '--dataset=digits', '--data_dir={data}', '--test_split=test[:64]'
_LINES = (
  ('inspect', '--model={file}'),
  ('inspect', '--model={file}'),
  ('inspect', '--model={file}', '--all'),
  ('evaluate', '--model={file}', *_DATA[:2], '--split=test[:64]'),
  (
    *('doctor', '--recipe=digits', '--image_size=8', '--channels=3', *_DATA),
    *('--teacher={file}', '--workdir={cwd}/work', '--student=resnet8x0.25'),
    *('--train_split=train[:96]', '--validation_examples=32'),
    *('--preprocessing=0..1', '--mean=0.5,0.5,0.5', '--std=0.5,0.5,0.5'),
  ),
)


@dataclasses.dataclass(frozen=True)
class _Case:
  """A file in place of a whole one, and a command that reads it."""

  name: str
  content: mutations.Placed
  command: str
  arguments: list[str]

  def __repr__(self):
    return f'{self.command} {shlex.join(self.arguments)} with {self.name}'


@st.composite
def _changed(draw, content):
  """Returns a graph with one or two changes that protobuf can read."""
  import onnx  # noqa: PLC0415

  model = onnx.ModelProto.FromString(content)
  for _ in range(draw(st.integers(1, 2))):
    _change(draw, onnx, model)
  return model.SerializeToString()


def _change(draw, onnx, model):
  graph = model.graph
  names = [each for node in graph.node for each in (*node.input, *node.output)]
  names += ['', 'nothing', 'image', 'logits']
  kind = draw(
    st.sampled_from(
      (
        *('type', 'input', 'output', 'attribute', 'dims', 'shape', 'weights'),
        *('delete', 'repeat', 'opset', 'domain', 'kind', 'outside'),
      )
    )
  )
  node = draw(st.sampled_from(list(graph.node))) if graph.node else None
  tensor = (
    draw(st.sampled_from(list(graph.initializer)))
    if graph.initializer
    else None
  )
  numbers = st.sampled_from((0, 1, -1, 2, 7, 2**31, 2**62, -(2**63)))
  if kind == 'opset':
    model.opset_import[0].version = draw(numbers)
  elif kind in ('shape', 'kind') and (graph.input or graph.output):
    value = draw(st.sampled_from([*graph.input, *graph.output]))
    of_tensor = value.type.tensor_type
    if kind == 'kind':
      of_tensor.elem_type = draw(st.sampled_from((0, 1, 7, 8, 10, 14, 99)))
    elif of_tensor.shape.dim and draw(st.booleans()):
      dim = draw(st.sampled_from(list(of_tensor.shape.dim)))
      dim.dim_value = draw(numbers)
    else:
      del of_tensor.shape.dim[draw(st.integers(0, 3)) :]
  elif tensor is not None and kind in ('dims', 'weights', 'outside'):
    if kind == 'dims':
      tensor.dims[:] = draw(st.lists(numbers, max_size=4))
    elif kind == 'weights':
      tensor.raw_data = draw(st.binary(max_size=32))
      tensor.data_type = draw(st.sampled_from((0, 1, 7, 8, 10, 22, 99)))
    else:
      tensor.data_location = 1
      for key in ('location', 'offset', 'length'):
        value = draw(
          st.sampled_from(
            (
              *('../w.npz', '/etc/passwd', 'w.npz', 'pipe', '.', '', 'loop'),
              *('\0', '-1', str(2**80), '3', 'x'),
            )
          )
        )
        tensor.external_data.add(key=key, value=value)
  elif node is not None:
    _change_node(draw, kind, graph, node, names, numbers)


def _change_node(draw, kind, graph, node, names, numbers):
  if kind == 'delete':
    graph.node.remove(node)
  elif kind == 'repeat':
    graph.node.append(node)
  elif kind == 'domain':
    node.domain = draw(st.sampled_from(('com.microsoft', 'ai.onnx.ml', 'x')))
  elif kind == 'attribute' and node.attribute:
    attribute = draw(st.sampled_from(list(node.attribute)))
    if draw(st.booleans()):
      node.attribute.remove(attribute)
    else:
      attribute.i = draw(numbers)
      attribute.ints[:] = draw(st.lists(numbers, max_size=4))
      attribute.type = draw(st.sampled_from((0, 1, 2, 4, 5, 7)))
  elif kind in ('input', 'output'):
    of_node = getattr(node, kind)
    of_node[:] = draw(
      st.lists(st.sampled_from(names), max_size=len(of_node) + 1)
    )
  else:
    kinds = ('Relu', 'Conv', 'Flatten', 'If', 'Loop', 'Softmax', 'Cast', 'x')
    kinds += ('Constant', 'Sigmoid', 'Pad', 'Concat', 'Transpose', 'Reshape')
    node.op_type = draw(st.sampled_from(kinds))


@st.composite
def _cases(draw, box):
  name = draw(st.sampled_from(_FILES))
  command, *arguments = draw(st.sampled_from(_LINES))
  places = {each: box.path(each) for each in ('inputs', 'data', 'cwd')}
  content = fuzz_inputs.read(box.path(name))
  return _Case(
    name,
    draw(st.one_of(*(_changed(content),) * 5, mutations.placed(name, content))),
    command,
    [each.format(file=box.path(name), **places) for each in arguments],
  )


class OnnxTest(fuzzing.FuzzCase):
  @classmethod
  def setUpClass(cls):
    if onnx_graphs.MISSING:
      raise absltest.SkipTest(f'not installed: {onnx_graphs.MISSING}')
    super().setUpClass()

  @classmethod
  def fill(cls):
    super().fill()
    inputs = cls.box.path('inputs')
    shutil.copy(onnx_graphs.CNN, f'{inputs}/cnn.onnx')
    # As many classes as the data set has.
    matrix = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    weights = {'matrix': matrix}
    proto = onnx_graphs.model(onnx_graphs.classifier(), weights=weights)
    onnx_graphs.write(f'{inputs}/small.onnx', proto)
    # Weights in a file beside it, and the activation in the graph.
    nodes = onnx_graphs.classifier(logits='raw')
    nodes.append(onnx_graphs.node('Softmax', 'raw', 'logits'))
    proto = onnx_graphs.model(nodes, weights=weights)
    kernel = proto.graph.initializer[0]
    with open(f'{inputs}/kernel.bin', 'wb') as file:
      file.write(kernel.raw_data)
    kernel.ClearField('raw_data')
    kernel.data_location = 1
    kernel.external_data.add(key='location', value='kernel.bin')
    onnx_graphs.write(f'{inputs}/beside.onnx', proto)

  @pytest.mark.slow
  def test_teachers_end_in_an_answer_or_a_line(self):

    def try_one(case):
      self.box.place(case.name, case.content)
      ended = self.box.run(case.command, case.arguments)
      self.check(ended, case.command, case.arguments, case.content)
      return ended.code

    with self.box.entered():
      codes = fuzzing.count_ends(_cases(self.box), _CASES, try_one)
    self.assertGreater(codes.get(2, 0), _CASES // 5)
    self.assertGreater(codes.get(0, 0) + codes.get('began', 0), _CASES // 30)


if __name__ == '__main__':
  absltest.main()
