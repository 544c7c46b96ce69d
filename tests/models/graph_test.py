"""Reading and rerunning a model's graph, and private Keras in one file."""

import ast
import os
import re
import tomllib

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf.models import graph

_ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
_GRAPH = 'ft_tf/models/graph.py'
# Private names of the standard library that are documented for such use.
_DOCUMENTED = {'_exit'}  # of os
# Keras has no public way to make models safe to load again.
# LiteRT has no public way to tell which operations a delegate has taken.
_OF_LITERT = {'_get_ops_details'}
_EXEMPT = {
  'tests/fixtures.py': {'keras.src.saving'},
  # What Python does at the end of a process; a fork ends before its end.
  'tests/forks/server.py': {'_run_exitfuncs', '_shutdown'},
}


def _sources(*tops):
  """Yields path and syntax tree of each Python file."""
  for top in tops:
    for folder, _, names in os.walk(os.path.join(_ROOT, top)):
      for name in sorted(names):
        if name.endswith('.py'):
          path = os.path.join(folder, name)
          with open(path, encoding='utf-8') as file:
            yield os.path.relpath(path, _ROOT), ast.parse(file.read(), path)


def _is_private(name: str) -> bool:
  return name.startswith('_') and not name.startswith('__')


def _defined(tree: ast.AST) -> set[str]:
  """Returns the names that a file defines, its attributes included."""
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
      names.add(node.name)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      names.add(node.id)
    elif (
      isinstance(node, ast.Attribute)
      and isinstance(node.ctx, ast.Store)
      and isinstance(node.value, ast.Name)
      and node.value.id in ('self', 'cls')
    ):
      names.add(node.attr)
  return names


def _private_uses(tree: ast.AST, own: set[str] = frozenset()) -> set[str]:
  """Returns the private names that a file uses and does not define.

  Args:
    tree: The file's.
    own: Further names that are this library's.
  """
  uses = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      uses |= {each.name for each in node.names if _in_keras_src(each.name)}
    elif isinstance(node, ast.ImportFrom):
      if _in_keras_src(node.module or ''):
        uses.add(node.module)
      elif node.module == 'keras':
        uses |= {'keras.src' for each in node.names if each.name == 'src'}
    elif isinstance(node, ast.Attribute):
      if ast.unparse(node) == 'keras.src':
        uses.add('keras.src')
      elif _is_private(node.attr):
        uses.add(node.attr)
  return uses - _defined(tree) - own - _DOCUMENTED - _OF_LITERT


def _in_keras_src(module: str) -> bool:
  return f'{module}.'.startswith('keras.src.')


class PrivateKerasTest(parameterized.TestCase):
  def test_library_uses_private_names_of_others_in_one_file(self):
    users = {
      path: uses
      for path, tree in _sources('ft_tf', 'bin')
      if (uses := _private_uses(tree))
    }
    self.assertEqual({*users}, {_GRAPH}, users)
    self.assertContainsSubset({'_keras_history'}, users[_GRAPH])

  def test_tests_use_private_names_of_this_library_alone(self):
    own = set().union(*(_defined(tree) for _, tree in _sources('ft_tf')))
    for path, tree in _sources('tests'):
      uses = _private_uses(tree, own)
      kept = {
        use
        for use in uses
        if not any(use.startswith(module) for module in _EXEMPT.get(path, ()))
      }
      self.assertEmpty(kept, path)

  @parameterized.parameters(
    ('import keras.src.ops', {'keras.src.ops'}),
    ('from keras.src.ops import node', {'keras.src.ops'}),
    ('from keras import src', {'keras.src'}),
    ('import keras\nkeras.src.ops', {'keras.src'}),
    ('tensor._keras_history.operation', {'_keras_history'}),
    ('self._flatten_layers()', {'_flatten_layers'}),
    ('self._own = 1\nself._own', set()),
    ('layer._own = 1', {'_own'}),
    ('def _own(): pass\nmodule._own()', set()),
    ('self.__class__', set()),
  )
  def test_scan_finds(self, source, expected):
    self.assertEqual(_private_uses(ast.parse(source)), expected)


class ReleasesTest(absltest.TestCase):
  def test_required_releases_are_those_that_the_file_holds_for(self):
    with open(os.path.join(_ROOT, 'pyproject.toml'), 'rb') as file:
      required = tomllib.load(file)['project']['dependencies']
    (keras_range,) = [each for each in required if re.match('keras[<>=]', each)]
    (first, *_), (major, minor) = graph.KERAS_RELEASES, graph.KERAS_RELEASES[-1]
    self.assertEqual(
      keras_range, f'keras>={first[0]}.{first[1]},<{major}.{minor + 1}'
    )

  def test_releases_follow_one_another(self):
    first = graph.KERAS_RELEASES[0]
    self.assertSequenceEqual(
      graph.KERAS_RELEASES,
      [(first[0], first[1] + i) for i in range(len(graph.KERAS_RELEASES))],
    )

  def test_installed_release_is_one_of_them(self):
    installed = tuple(map(int, keras.__version__.split('.')[:2]))
    self.assertIn(installed, graph.KERAS_RELEASES)


def _names(model):
  return [call.operation.name for call in graph.calls(model)]


def _shared():
  """Returns a model that calls one layer twice, and the layer's outputs."""
  image = keras.Input((3,), name='image')
  dense = keras.layers.Dense(3, name='dense')
  once = dense(image)
  twice = dense(once)
  total = keras.layers.Add(name='sum')([once, twice])
  return keras.Model(image, total), once, twice


class CallsTest(absltest.TestCase):
  def test_each_call_follows_those_it_reads_from(self):
    model, once, twice = _shared()
    calls = graph.calls(model)
    self.assertEqual(_names(model), ['dense', 'dense', 'sum'])
    self.assertIs(calls[0].inputs[0], model.inputs[0])
    self.assertIs(calls[0].outputs[0], once)
    self.assertIs(calls[1].inputs[0], once)
    self.assertIs(calls[1].outputs[0], twice)
    self.assertIs(calls[2].inputs[0], once)
    self.assertIs(calls[2].inputs[1], twice)
    self.assertIs(calls[2].outputs[0], model.outputs[0])

  def test_calls_outside_the_model_are_left_out(self):
    model, once, _ = _shared()
    part = keras.Model(model.inputs, once)
    self.assertEqual(_names(part), ['dense'])
    model.get_layer('dense')(keras.Input((3,)))
    self.assertEqual(_names(model), ['dense', 'dense', 'sum'])

  def test_sequential_model_has_its_layers(self):
    layers = [keras.layers.Dense(2, name=name) for name in ('first', 'second')]
    self.assertEqual(
      _names(keras.Sequential([keras.Input((3,)), *layers])),
      ['first', 'second'],
    )

  def test_nested_model_is_one_call(self):
    inner, *_ = _shared()
    image = keras.Input((3,))
    model = keras.Model(image, keras.ops.relu(inner(image)))
    calls = graph.calls(model)
    self.assertLen(calls, 2)
    self.assertIs(calls[0].operation, inner)

  def test_computes_again_with_other_inputs_and_the_same_arguments(self):
    x, y = keras.Input((2,)), keras.Input((2,))
    model = keras.Model([x, y], keras.ops.concatenate([x, y, x], axis=1))
    (call,) = graph.calls(model)
    self.assertLen(call.inputs, 3)
    values = [np.float32([[a, a + 1]]) for a in (1, 3, 1)]
    (found,) = call.compute(values)
    np.testing.assert_array_equal(found, [[1, 2, 3, 4, 1, 2]])
    with self.assertRaises(ValueError):
      call.compute(values[:2])

  def test_computes_every_output(self):
    x = keras.Input((4,))
    call = graph.producer(keras.ops.split(x, 2, axis=1)[1])
    self.assertLen(call.outputs, 2)
    first, second = call.compute([np.float32([[1, 2, 3, 4]])])
    np.testing.assert_array_equal(first, [[1, 2]])
    np.testing.assert_array_equal(second, [[3, 4]])


class ProducerTest(absltest.TestCase):
  def test_shared_layer_has_a_call_per_output(self):
    model, once, twice = _shared()
    dense = model.get_layer('dense')
    for output, source in ((once, model.inputs[0]), (twice, once)):
      call = graph.producer(output)
      self.assertIs(call.operation, dense)
      self.assertIs(call.inputs[0], source)
      self.assertIs(call.outputs[0], output)

  def test_input_has_a_call_without_inputs(self):
    model, *_ = _shared()
    call = graph.producer(model.inputs[0])
    self.assertIsInstance(call.operation, keras.layers.InputLayer)
    self.assertEmpty(call.inputs)


class RunTest(absltest.TestCase):
  def test_operations_are_called_again_one_by_one(self):
    model, *_ = _shared()
    image = keras.Input((3,), dtype='uint8')
    (y,) = graph.run(model, [keras.ops.cast(image, 'float32')])
    again = keras.Model(image, y)
    kinds = [type(call.operation).__name__ for call in graph.calls(again)]
    self.assertEqual(kinds, ['Cast', 'Dense', 'Dense', 'Add'])
    values = np.uint8([[1, 2, 250]])
    np.testing.assert_array_equal(again(values), model(np.float32(values)))

  def test_operations_are_replaced(self):
    model, *_ = _shared()
    seen = []

    def replace(operation):
      seen.append(operation.name)
      if operation.name == 'sum':
        return operation
      return lambda x: 2 * x

    (y,) = graph.run(model, model.inputs, replace)
    self.assertEqual(seen, ['dense', 'dense', 'sum'])
    found = keras.Model(model.inputs[0], y)(np.float32([[1, 2, 3]]))
    np.testing.assert_array_equal(found, [[6, 12, 18]])

  def test_sequential_model_runs(self):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(3.0)])
    (y,) = graph.run(model, [np.float32([[1, 2]])])
    np.testing.assert_array_equal(y, [[3, 6]])


class KindsTest(absltest.TestCase):
  def test_plain_models_are_functional_or_sequential(self):
    class Own(keras.Model):
      pass

    class OwnSequential(keras.Sequential):
      pass

    x = keras.Input((2,))
    for model in (keras.Model(x, x), keras.Sequential()):
      self.assertTrue(graph.is_plain_model(model))
    for other in (
      Own(),
      Own(x, x),
      OwnSequential(),
      keras.layers.Dense(1),
      graph.producer(x + 1).operation,
    ):
      self.assertFalse(graph.is_plain_model(other))

  def test_classes_of_keras_are_told_from_others(self):
    class Own(keras.layers.Dense):
      pass

    for operation in (
      keras.layers.Dense(1),
      keras.Sequential(),
      graph.producer(keras.ops.relu(keras.Input((2,)))).operation,
    ):
      self.assertTrue(graph.is_of_keras(operation))
    self.assertFalse(graph.is_of_keras(Own(1)))


class FlatLayersTest(absltest.TestCase):
  def test_layers_come_from_every_depth_once(self):
    inner, *_ = _shared()
    outer = keras.Sequential([keras.Input((3,)), inner], name='outer')
    image = keras.Input((3,))
    model = keras.Model(image, inner(outer(image)))
    layers = graph.flat_layers(model)
    self.assertIs(layers[0], model)
    self.assertLen({id(each) for each in layers}, len(layers))
    self.assertContainsSubset(
      ['outer', inner.name, 'dense', 'sum'], [each.name for each in layers]
    )

  def test_layer_inside_a_layer_that_is_no_model_is_found(self):
    cell = keras.layers.Dense(1, name='cell')
    wrapper = keras.layers.TimeDistributed(cell)
    self.assertEqual(graph.flat_layers(wrapper), [wrapper, cell])


class _Placing(keras.optimizers.SGD):
  """Notes the place of each variable that it is asked to move."""

  def update_step(self, gradient, variable, learning_rate):
    self.places.append(graph.variable_index(self, variable))


class VariableIndexTest(absltest.TestCase):
  def test_place_is_that_of_the_build(self):
    variables = [keras.Variable(float(i)) for i in range(3)]
    optimizer = _Placing()
    optimizer.places = []
    optimizer.build(variables)
    moved = [variables[2], variables[0]]
    optimizer.apply([tf.constant(1.0)] * 2, moved)
    self.assertEqual(optimizer.places, [2, 0])
    self.assertEqual(graph.variable_index(optimizer, variables[1]), 1)


class DrawingFromTest(absltest.TestCase):
  def test_unseeded_operations_draw_from_the_generator(self):
    draws = []
    for _ in range(2):
      generator = keras.random.SeedGenerator(3)
      with graph.drawing_from(generator):
        draws += [keras.random.normal((4,)), keras.random.normal((4,))]
    first, second, again, _ = map(np.asarray, draws)
    np.testing.assert_array_equal(first, again)
    self.assertFalse(np.array_equal(first, second))

  def test_the_generator_before_comes_back_even_after_an_error(self):
    outer, inner = (keras.random.SeedGenerator(seed) for seed in (1, 2))
    with graph.drawing_from(outer):
      with self.assertRaises(KeyError), graph.drawing_from(inner):
        raise KeyError
      keras.random.normal((1,))
    self.assertNotEqual([*np.asarray(outer.state)], [1, 0])
    np.testing.assert_array_equal(inner.state, [2, 0])


if __name__ == '__main__':
  absltest.main()
