"""Where LiteRT's kernels quantise, decided from a model's graph.

The converter merges a batch norm into the convolution before it, a constant
summand into its bias, and relu and relu6 into the operation that they follow
and that nothing else reads. What is left is one kernel each, and a kernel
writes int8. Padding, reshapes and maxima write the values that they read, and
means over windows round to the range that they read.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ft_tf import errors
from ft_tf.models import graph

# By the class of a layer. What is not here is unknown.
_LAYERS: Mapping[type, str] = {
  keras.layers.Conv2D: 'convolution',
  keras.layers.DepthwiseConv2D: 'depthwise',
  keras.layers.Dense: 'dense',
  keras.layers.BatchNormalization: 'norm',
  keras.layers.Normalization: 'normalization',
  keras.layers.Rescaling: 'rescaling',
  keras.layers.Add: 'sum',
  keras.layers.Multiply: 'product',
  keras.layers.Concatenate: 'join',
  keras.layers.GlobalAveragePooling2D: 'mean',
  keras.layers.AveragePooling2D: 'window_mean',
  keras.layers.ZeroPadding2D: 'same',
  keras.layers.MaxPooling2D: 'same',
  keras.layers.Flatten: 'same',
  keras.layers.Reshape: 'same',
  keras.layers.Identity: 'identity',
  keras.layers.Dropout: 'dropout',
  keras.layers.SpatialDropout2D: 'dropout',
}
# By the name of the class of an operation of keras.ops.
_OPERATIONS = {
  'Add': 'sum',
  'Subtract': 'sum',
  'Multiply': 'product',
  'Divide': 'product',
  'TrueDivide': 'product',
  'Relu': 'relu',
  'Relu6': 'relu6',
  'Silu': 'swish',
  'HardSilu': 'hard_swish',
  'HardSigmoid': 'hard_sigmoid',
  'Sigmoid': 'sigmoid',
  'Concatenate': 'join',
  'Reshape': 'same',
  'Cast': 'identity',
}
_ACTIVATIONS = {
  keras.activations.linear: 'identity',
  keras.activations.relu: 'relu',
  keras.activations.relu6: 'relu6',
  keras.activations.silu: 'swish',
  keras.activations.hard_silu: 'hard_swish',
  keras.activations.hard_sigmoid: 'hard_sigmoid',
  keras.activations.sigmoid: 'sigmoid',
}
WEIGHTED = ('convolution', 'depthwise', 'dense')
# Values pass through them unchanged at inference, and fusing looks past them.
_TRANSPARENT = ('folded', 'identity', 'dropout')
# They write int8 in a range of their own. A sigmoid's range is fixed.
_WITH_RANGE = (
  *WEIGHTED,
  'norm',
  'normalization',
  'rescaling',
  'sum',
  'product',
  'join',
  'mean',
  'relu',
  'relu6',
  'swish',
  'hard_swish',
  'hard_sigmoid',
)


@dataclasses.dataclass(frozen=True, eq=False)
class Role:
  """What one call of a model's graph is in the int8 file.

  Attributes:
    call: The call.
    kind: One of the kinds above, or 'folded': a batch norm that is part of the
      weights before it.
    name: The operation's; of a second call with a suffix.
    group: The name of the layer whose kernel the call ends, such as the
      convolution before a relu; its own otherwise.
    has_range: Whether int8 is written in a range of its own behind it.
    activation: Kind of the activation inside the layer; 'identity' for none.
    norm: The batch norm that is folded into the weights.
  """

  call: graph.Call
  kind: str
  name: str
  group: str
  has_range: bool
  activation: str = 'identity'
  norm: keras.layers.BatchNormalization | None = None


def plan(model: keras.Model) -> list[Role]:
  """Returns the role of each call in a model's graph, in its order.

  Args:
    model: A functional or Sequential model without nested models, from raw
      images to logits.

  Raises:
    UsageError: a layer's int8 kernel is not known; all such are named.
  """
  calls = graph.calls(model)
  unknown = [
    f'{call.operation.name} ({obstacle})'
    for call in calls
    if (obstacle := _obstacle(call))
  ]
  if unknown:
    raise errors.UsageError(
      f'{model.name} has layers whose int8 arithmetic is not known: '
      f'{", ".join(dict.fromkeys(unknown))}; leave out --qat_epochs, or give a '
      'student without them'
    )
  return _Planner(calls, model.outputs).roles()


def constant(call: graph.Call) -> Any:
  """Returns the constant of a sum or a product; None if both are tensors."""
  constants = [
    each for each in _operands(call) if not isinstance(each, keras.KerasTensor)
  ]
  return constants[0] if constants else None


def _operands(call):
  arguments = (call.arguments.args, call.arguments.kwargs)
  return [each for each in keras.tree.flatten(arguments) if each is not None]


def _kind(operation: keras.Operation) -> str:
  """Returns the kind of an operation, '' if it is not known."""
  if isinstance(operation, keras.layers.ReLU):
    return {None: 'relu', 6: 'relu6'}.get(operation.max_value, '')
  if isinstance(operation, keras.layers.Activation):
    return _ACTIVATIONS.get(operation.activation, '')
  if isinstance(operation, keras.layers.Layer):
    return _LAYERS.get(type(operation), '')
  if graph.is_of_keras(operation):
    return _OPERATIONS.get(type(operation).__name__, '')
  return ''


def _obstacle(call: graph.Call) -> str:
  """Returns why a call has no known int8 kernel; '' if it has one."""
  operation, kind = call.operation, _kind(call.operation)
  if not kind:
    return type(operation).__name__
  reasons = {
    'quantized already': getattr(operation, 'quantization_mode', None),
    'LoRA weights': getattr(operation, 'lora_enabled', False),
    'groups': getattr(operation, 'groups', 1) != 1,
    'channels_first': kind
    in ('convolution', 'depthwise', 'mean', 'window_mean')
    and operation.data_format != 'channels_last',
    'batch renormalisation': getattr(operation, 'renorm', False),
    'inverse normalisation': getattr(operation, 'invert', False),
    'another axis than the last': kind == 'norm'
    and operation.axis not in (-1, len(call.inputs[0].shape) - 1),
  }
  if kind in WEIGHTED:
    name = getattr(operation.activation, '__name__', 'unnamed')
    reasons[f'activation {name}'] = operation.activation not in _ACTIVATIONS
  if isinstance(operation, keras.layers.ReLU):
    reasons['a slope or a threshold'] = bool(
      operation.negative_slope or operation.threshold
    )
  if kind in ('sum', 'product'):
    reasons['other than two operands'] = len(_operands(call)) != 2
    reasons['a quotient or difference of other form'] = type(
      operation
    ).__name__ in ('Subtract', 'Divide', 'TrueDivide') and not (
      len(call.inputs) == 1
      and isinstance(_operands(call)[0], keras.KerasTensor)
    )
  elif kind == 'join':
    reasons['a constant'] = len(_operands(call)) != len(call.inputs)
    reasons['the axis of the images'] = (
      operation.axis % len(call.inputs[0].shape) == 0
    )
  else:
    reasons['several inputs'] = len(call.inputs) != 1
  return next((reason for reason, holds in reasons.items() if holds), '')


class _Planner:
  """The roles of the calls of one graph."""

  def __init__(
    self,
    calls: Sequence[graph.Call],
    outputs: Sequence[keras.KerasTensor],
  ):
    self._calls = calls
    self._readers: dict[int, list[graph.Call | None]] = collections.defaultdict(
      list
    )
    for call in calls:
      for tensor in call.inputs:
        self._readers[id(tensor)].append(call)
    for tensor in outputs:
      self._readers[id(tensor)].append(None)  # The caller reads it.
    self._counts = collections.Counter(id(call.operation) for call in calls)
    self._kinds = {call: _kind(call.operation) for call in calls}
    self._norms: dict[graph.Call, keras.layers.BatchNormalization] = {}
    for call in calls:
      norm = self._foldable_norm(call)
      if norm is not None:
        self._norms[call] = norm.operation
        self._kinds[norm] = 'folded'

  def roles(self) -> list[Role]:
    names: collections.Counter[str] = collections.Counter()
    open_groups: dict[int, str] = {}  # By the id of an unfinished tensor.
    roles = []
    for call in self._calls:
      kind, name = self._kinds[call], call.operation.name
      names[name] += 1
      if names[name] > 1:
        name = f'{name}_call{names[name]}'
      # A kernel that was begun before this call and ends with it or later.
      group = open_groups.get(id(call.inputs[0]), name)
      is_open = self._is_open(call)
      if is_open or (
        kind in _TRANSPARENT and id(call.inputs[0]) in open_groups
      ):
        open_groups[id(call.outputs[0])] = group
      roles.append(
        Role(
          call,
          kind,
          name,
          group,
          has_range=kind in _WITH_RANGE
          and not is_open
          and not self._is_joined(call),
          activation=self._inner_activation(call),
          norm=self._norms.get(call),
        )
      )
    return roles

  def _inner_activation(self, call):
    if self._kinds[call] not in WEIGHTED:
      return 'identity'
    return _ACTIVATIONS[call.operation.activation]

  def _only_reader(self, call, passed=()):
    """Returns the one call that reads a call's output, or None.

    Args:
      call: The call.
      passed: Kinds of calls that are passed, to the one that reads theirs.
    """
    readers = self._readers[id(call.outputs[0])]
    reader = readers[0] if len(readers) == 1 else None
    if reader is not None and self._kinds[reader] in passed:
      return self._only_reader(reader, passed)
    return reader

  def _foldable_norm(self, call):
    """Returns the call of the batch norm to fold into a call's weights."""
    reader = self._only_reader(call)
    if (
      self._kinds[call] in WEIGHTED
      and reader is not None
      and self._kinds[reader] == 'norm'
      # The weights of a layer called twice are not this norm's alone.
      and self._counts[id(call.operation)] == 1
      and self._counts[id(reader.operation)] == 1
      and self._inner_activation(call) == 'identity'
    ):
      return reader
    return None

  def _is_open(self, call):
    """Tells whether the kernel of a call goes on in the call after it."""
    kind, reader = self._kinds[call], self._only_reader(call, _TRANSPARENT)
    if reader is None:
      return False
    follows = self._kinds[reader]
    if kind in WEIGHTED:
      return self._inner_activation(call) == 'identity' and (
        follows in ('relu', 'relu6', 'hard_sigmoid')
        or (follows == 'sum' and len(reader.inputs) == 1)
      )
    return kind in ('norm', 'sum', 'product') and follows in ('relu', 'relu6')

  def _is_joined(self, call):
    """Tells whether a kernel writes in the range of a concatenation.

    Its inputs and its output have one range. What others read as well is
    converted to it first.
    """
    reader = self._only_reader(call, (*_TRANSPARENT, 'same'))
    return reader is not None and self._kinds[reader] == 'join'
