"""A .tflite file as a table: its names made short, its metadata put in."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ft_tf.evaluation import predictors
from ft_tf.export import tflite_metadata

_IDENTIFIER = b'TFL3'


def tensor_counts(content: bytes) -> list[int]:
  """Returns how many tensors each graph of a file has.

  The main graph comes first, then the bodies of loops and branches. An
  interpreter numbers the tensors of each from 0, and its own after them.
  """
  model = schema.Model.GetRootAs(content, 0)
  return [
    model.Subgraphs(number).TensorsLength()
    for number in range(model.SubgraphsLength())
  ]


def complete(content: bytes) -> bytes:
  """Returns a converter's file with a signature, and its tensors numbered.

  The converter names tensors by places in the graph that it was given, which
  are a fiftieth of a small network's bytes. Inputs and outputs are found by the
  signature `serving_default`, from `image` to `logits`.
  """
  model = schema.ModelT.InitFromPackedBuf(content, 0)
  main = model.subgraphs[0]
  (image,), (logits,) = main.inputs, main.outputs
  signature = schema.SignatureDefT()
  signature.signatureKey = predictors.SIGNATURE.encode()
  signature.inputs = [schema.TensorMapT(b'image', int(image))]
  signature.outputs = [schema.TensorMapT(b'logits', int(logits))]
  model.signatureDefs = [signature]
  for graph in model.subgraphs:
    for number, tensor in enumerate(graph.tensors):
      tensor.name = f'{number:x}'.encode()
  return _pack(model)


def describe(content: bytes, description: tflite_metadata.Description) -> bytes:
  """Returns a file with its description and its class names inside."""
  model = schema.ModelT.InitFromPackedBuf(content, 0)
  buffer = schema.BufferT()
  buffer.data = np.frombuffer(tflite_metadata.pack(description), np.uint8)
  model.buffers.append(buffer)
  entry = schema.MetadataT()
  entry.name = tflite_metadata.NAME.encode()
  entry.buffer = len(model.buffers) - 1
  model.metadata = [*(model.metadata or []), entry]
  return tflite_metadata.append_labels(_pack(model), description.label_names)


def _pack(model: schema.ModelT) -> bytes:
  builder = flatbuffers.Builder(1024)
  builder.Finish(model.Pack(builder), _IDENTIFIER)
  return bytes(builder.Output())
