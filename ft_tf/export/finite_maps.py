"""Whether all that a network computes has a range, before it is quantised.

The converter ends the process, by a segmentation fault, where a value inside of
the network is infinite on a calibration image. TFLite has softplus as
log(1 + exp(x)), and selu with exp(x) of positive values too, so that this
happens though the network's own outputs are finite. So does it where a network
has a loop, as recurrent layers are.
"""

import numpy as np
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from ft_tf import errors
from ft_tf.export import tflite_file

# TensorFlow's operations whose values are finite for finite inputs of a usual
# size, in TFLite too.
_BOUNDED = frozenset(
  (
    'Add',
    'AddN',
    'AddV2',
    'AvgPool',
    'BiasAdd',
    'BroadcastTo',
    'Cast',
    'ClipByValue',
    'ConcatV2',
    'Conv2D',
    'DepthToSpace',
    'DepthwiseConv2dNative',
    'Elu',
    'FusedBatchNormV3',
    'GatherV2',
    'Identity',
    'IdentityN',
    'LeakyRelu',
    'MatMul',
    'Max',
    'MaxPool',
    'Maximum',
    'Mean',
    'Minimum',
    'MirrorPad',
    'Mul',
    'Neg',
    'Pack',
    'Pad',
    'PadV2',
    'Placeholder',
    'Relu',
    'Relu6',
    'Reshape',
    'ResizeBilinear',
    'ResizeNearestNeighbor',
    'Shape',
    'Sigmoid',
    'Slice',
    'Softmax',
    'SpaceToDepth',
    'Split',
    'SplitV',
    'Sqrt',
    'Square',
    'SquaredDifference',
    'Squeeze',
    'StopGradient',
    'StridedSlice',
    'Sub',
    'Sum',
    'Tanh',
    'Tile',
    'Transpose',
    'Unpack',
  )
)


def are_sure(graph: tf.Graph) -> bool:
  """Tells whether no value that depends on the image can be infinite.

  Args:
    graph: A network's, with constants for weights.
  """
  depending: set[str] = set()  # names of tensors
  # A graph lists its operations in an order in which they can be computed.
  for each in graph.get_operations():
    found = [tensor.name in depending for tensor in each.inputs]
    if not any(found) and each.type != 'Placeholder':
      continue
    by_constant = each.type == 'RealDiv' and not found[1]
    if each.type not in _BOUNDED and not by_constant:
      return False
    depending.update(tensor.name for tensor in each.outputs)
  return True


def check(content: bytes, images: np.ndarray, name: str) -> None:
  """Raises `UsageError` for what would end the process of the converter.

  That is a value that is not finite on an image, or a loop or branch.

  Args:
    content: The network's float32 .tflite file of batch 1.
    images: Raw images, `[N, H, W, C]`.
    name: What messages call the network.
  """
  own, *bodies = tflite_file.tensor_counts(content)
  if bodies:
    raise errors.UsageError(
      f'{name} cannot be converted to int8: it has loops or branches, which '
      'TFLite does not quantise; give a network without them (recurrent layers '
      'with unroll=True)'
    )
  interpreter = litert.Interpreter(
    model_content=content,
    experimental_preserve_all_tensors=True,
    # A delegate keeps the values inside of it to itself.
    experimental_op_resolver_type=(
      litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    ),
  )
  interpreter.allocate_tensors()
  (given,) = interpreter.get_input_details()
  # After the file's own come those that kernels compute in, which may hold
  # whatever was in that memory before.
  maps = [
    tensor
    for tensor in interpreter.get_tensor_details()
    if tensor['index'] < own
    and tensor['dtype'] == np.float32
    and tensor['shape'].size
  ]
  for image in images:
    interpreter.set_tensor(given['index'], image[None].astype(given['dtype']))
    interpreter.invoke()
    for tensor in maps:
      if not np.isfinite(interpreter.get_tensor(tensor['index'])).all():
        raise errors.UsageError(
          f'{name} cannot be converted to int8: on a training image the values '
          f'of {tensor["name"].split(";")[0]} are infinite in TFLite, which '
          'computes softplus, selu and exponentials by exp(x); give a network '
          'that scales its images and normalises its maps, or other activations'
        )
