/* Numbers of the value types in GGUF metadata. */
#ifndef EQ_IO_GGUF_TYPES_H
#define EQ_IO_GGUF_TYPES_H

enum eq_gguf_type {
    EQ_GGUF_U8,
    EQ_GGUF_I8,
    EQ_GGUF_U16,
    EQ_GGUF_I16,
    EQ_GGUF_U32,
    EQ_GGUF_I32,
    EQ_GGUF_F32,
    EQ_GGUF_BOOL,
    EQ_GGUF_STRING,
    EQ_GGUF_ARRAY,
    EQ_GGUF_U64,
    EQ_GGUF_I64,
    EQ_GGUF_F64,
    EQ_GGUF_TYPES
};

#endif
