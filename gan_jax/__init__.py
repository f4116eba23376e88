"""gan_jax: functional GAN training on JAX and Flax."""
