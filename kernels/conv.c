/* Forward convolution: alone, or with the depthwise one that reads its output, band by band. What lies between the two then never
 * leaves the core's own cache, as a whole image of it would. Every output is the same chain of sums either way. */

/* Floats of a band: a quarter of a second-level cache of 1 MB. */
enum { BAND_FLOATS = 1 << 16 };

typedef struct {
  GemmJob conv;
  DepthwiseJob depthwise;
  int shares; /* of an image */
  int lines;  /* of a thread's band, which lies in the memory meant for the convolution's output */
} FusedJob;

/* Output lines [from, to) of an image, from y on. */
static void conv_lines(const GemmJob *job, int image, int from, int to, float *scratch, float *y) {
  const Source *s = &job->source;
  for (int line = from, lines; line < to; line += lines) {
    lines = imin(window_lines(s), to - line);
    Block b;
    if (source_is_dense(s)) b = (Block){.x = s->x + ((size_t)image * s->oh + line) * s->ow * s->c, .lines = 1, .rows = lines * s->ow, .ldx = s->c};
    else b = window_block(s, image, line, lines, scratch);
    gemm_part(job, &b, 0, job->columns, y);
    y += (size_t)lines * s->ow * job->columns;
  }
}

/* An item is a share of an image's output rows, from top to bottom. Lines that two bands need are moved, those that two shares
 * need are computed twice. */
static void fused_share(const void *context, int item, int thread) {
  const FusedJob *f = context;
  const GemmJob *conv = &f->conv;
  const DepthwiseJob *d = &f->depthwise;
  const int image = item / f->shares, share = item % f->shares, until = d->oh * (share + 1) / f->shares;
  const size_t line = (size_t)d->width * d->c;
  float *band = conv->y + (size_t)thread * f->lines * line, *scratch = conv->scratch ? conv->scratch + (size_t)thread * conv->scratch_floats : 0;
  int top = 0, end = 0; /* the lines that the band holds */
  for (int first = d->oh * share / f->shares, last; first < until; first = last) {
    last = imin(until, first + (f->lines - d->kernel) / d->stride + 1);
    const int from = imax(0, first * d->stride - d->pad), to = imin(d->h, (last - 1) * d->stride - d->pad + d->kernel);
    if (end > from) __builtin_memmove(band, band + (size_t)(from - top) * line, (size_t)(end - from) * line * 4);
    else end = from;
    top = from;
    if (to > end) {
      conv_lines(conv, image, end, to, scratch, band + (size_t)(end - top) * line);
      end = to;
    }
    for (int ch = 0; ch < d->c; ch += BAND_CHANNELS)
      depthwise_part(d, band - (ptrdiff_t)top * (ptrdiff_t)line, first, last, ch, imin(ch + BAND_CHANNELS, d->c),
                     d->y + (size_t)image * d->oh * d->ow * d->c);
  }
}

/* Whether it ran both: what is small stays in the cache anyway. */
static int run_fused(const ConvRecord *r, const Tiles *tiles, const DepthwiseRecord *next) {
  const int line = next->width * next->c, threads = dsn_threads();
  const int lines = imin(imin(next->h, BAND_FLOATS / line), next->n * next->h / threads);
  if (!is_far((size_t)next->n * next->h * line) || lines < 2 * next->kernel) return 0;
  FusedJob job = {conv_job(r, tiles), depthwise_job(next), next->n < threads ? threads : 1, lines};
  job.depthwise.far = 0;
  shape_gemm(&job.conv, r->cin_max);
  dsn_parallel_for(fused_share, &job, next->n * job.shares);
  return 1;
}

/* How many records it ran: `next` may be absent, and may be run too. */
static int run_conv(const ConvRecord *r, const Tiles *tiles, const DepthwiseRecord *next) {
  if (next && run_fused(r, tiles, next)) return 2;
  GemmJob job = conv_job(r, tiles);
  run_gemm(&job, r->cin_max);
  return 1;
}

static int op_conv(const ConvRecord *r, const DepthwiseRecord *next) { return run_conv(r, &float_tiles, next); }
