"""Reads and reruns a model's graph: the one file that uses private Keras.

Keras has no public way to walk a model's graph. Whatever private attribute or
module of Keras the library needs is used here and nowhere else, which
tests/models/graph_test.py checks, so that a new release of Keras is the work of
one file. `KERAS_RELEASES` says how a new release is allowed.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.models.functional import Functional
from keras.src.random import seed_generator

# The releases (major, minor) that the tests pass with, oldest first. Before a
# new one is added, here and to the range in pyproject.toml, run with it
#   python -m pytest tests/models tests/training/step_test.py \
#     tests/training/optimizers_test.py tests/export/convert_test.py \
#     tests/compression_test.py
KERAS_RELEASES = ((3, 14), (3, 15))


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
  """One call of an operation in a model's graph.

  Attributes:
    operation: What was called, a layer or an operation of `keras.ops`.
    inputs: The symbolic tensors among its arguments, in their order.
    outputs: The symbolic tensors that it returned.
    arguments: Keras's record of all its arguments, for `compute`.
  """

  operation: keras.Operation
  inputs: tuple[keras.KerasTensor, ...]
  outputs: tuple[keras.KerasTensor, ...]
  arguments: Any = dataclasses.field(repr=False)

  def compute(
    self,
    values: Sequence[Any],
    operation: Callable[..., Any] | None = None,
  ) -> list[Any]:
    """Returns what the operation makes of other inputs.

    Args:
      values: A tensor in the place of each of `inputs`; the other arguments
        stay as they were.
      operation: What is called in its place; None: the operation itself.

    Returns:
      A tensor for each of `outputs`.
    """
    by_id = {
      id(tensor): value
      for tensor, value in zip(self.inputs, values, strict=True)
    }
    args, kwargs = self.arguments.fill_in(by_id)
    return keras.tree.flatten((operation or self.operation)(*args, **kwargs))


def calls(model: keras.Model) -> list[Call]:
  """Returns the calls in a model's own graph, each after those it reads from.

  Calls that a layer or the model received elsewhere are not among them, nor are
  the calls within a nested model.

  Args:
    model: A functional or Sequential model, built.
  """
  nodes_by_depth = _function(model)._nodes_by_depth
  return [
    _call(node)
    for depth in sorted(nodes_by_depth, reverse=True)
    for node in nodes_by_depth[depth]
    if not node.is_input
  ]


def outputs(model: keras.Model) -> Any:
  """Returns a model's symbolic outputs: a tensor, or a nest as it returns them.

  Args:
    model: A functional or Sequential model, built.
  """
  if isinstance(model, keras.Sequential):
    # Its `output` is of the layer that it is in other models.
    return model.outputs[0]
  return model.output


def producer(tensor: keras.KerasTensor) -> Call:
  """Returns the call that returned a symbolic tensor.

  An input's is that of its `keras.layers.InputLayer`, without inputs.
  """
  operation, index, _ = tensor._keras_history
  return _call(operation._inbound_nodes[index])


def run(
  model: keras.Model,
  tensors: Sequence[keras.KerasTensor],
  replace: Callable[[keras.Operation], Callable[..., Any]] = lambda each: each,
) -> list[keras.KerasTensor]:
  """Returns the outputs of a model's operations, called again one by one.

  Calling the model itself would make it a single, nested operation.

  Args:
    model: A functional or Sequential model, built.
    tensors: Takes the place of each of the model's inputs.
    replace: From each operation to what is called in its place, once per call.
  """
  return _function(model)._run_through_graph(tensors, operation_fn=replace)


def is_plain_model(operation: keras.Operation) -> bool:
  """Tells whether an operation is a model whose graph is all that it computes.

  That is a functional or Sequential model; a subclass may compute otherwise.
  """
  return type(operation) in (keras.Sequential, Functional)


def is_of_keras(operation: keras.Operation) -> bool:
  """Tells whether an operation's class is one of Keras's own."""
  return type(operation).__module__.partition('.')[0] == 'keras'


def flat_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
  """Returns a layer, and after it every layer inside it at any depth."""
  return layer._flatten_layers()


def variable_index(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
  """Returns the place of a variable among those an optimizer was built with.

  Args:
    optimizer: Built.
    variable: As `update_step` receives it: a `keras.Variable`, or TensorFlow's
      under it.
  """
  return optimizer._get_variable_index(variable)


@contextlib.contextmanager
def drawing_from(generator: keras.random.SeedGenerator) -> Iterator[None]:
  """Makes random operations without a seed of their own use a generator.

  ConvNeXt's stochastic depth has such. Keras makes one generator per thread for
  them, inside the graph of the step if it is not there before, which fails.
  """
  name = seed_generator.GLOBAL_SEED_GENERATOR
  before = global_state.get_global_attribute(name)
  global_state.set_global_attribute(name, generator)
  try:
    yield
  finally:
    global_state.set_global_attribute(name, before)


def _function(model: keras.Model) -> keras.Function:
  """Returns a model's graph, which a Sequential model does not hold itself."""
  return keras.Function(model.inputs, model.outputs)


def _call(node: Any) -> Call:
  return Call(
    node.operation,
    tuple(node.input_tensors),
    tuple(node.outputs),
    node.arguments,
  )
