//! Response compression and decompression.
