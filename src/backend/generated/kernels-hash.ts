// Written by scripts/build-wasm.mjs, key c6b41509e14a59d67766c3c87d193fe4e2da35ebee7a66a283a1c88f8e58ae9e
// biome-ignore-all format: generated
export const KERNELS_HASH = "92b6e29266f9b932";
