"""Rewrites a GGUF file with its matrices in bfloat16 and all else as it is: make_gguf.py IN OUT"""
import json
import sys

from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, dequantize, quantize

ours = ("general.architecture", "general.file_type")
reader = GGUFReader(sys.argv[1])
writer = GGUFWriter(sys.argv[2], reader.fields["general.architecture"].contents())
writer.add_file_type(LlamaFileType.MOSTLY_BF16)
for name, field in reader.fields.items():
    if name in ours or name.startswith("GGUF."):
        continue
    of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
    writer.add_key_value(name, field.contents(), field.types[0], sub_type=of)
for tensor in reader.tensors:
    wide = dequantize(tensor.data, tensor.tensor_type).astype("float32")
    if len(tensor.shape) == 1:
        writer.add_tensor(tensor.name, wide)
    else:
        packed = quantize(wide, Type.BF16)
        writer.add_tensor(tensor.name, packed, raw_dtype=Type.BF16)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
print(json.dumps({"tensors": len(reader.tensors)}))
