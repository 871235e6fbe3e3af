/* The loops of decoding and training that many small tensor operations would spread over memory; rows are shared by threads.

   Each takes bfloat16 or float32 (`half` says which), and is right for any sizes; head sizes that are common are
   compiled with the size known. Strides count elements, not bytes. kernels.py says what each computes. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 128

INLINE float get(const void *restrict x, long i, int half) {
    if (!half) return ((const float *)x)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE uint16_t rounded(float value) { /* to the nearest bfloat16, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

INLINE void put(void *restrict x, long i, float value, int half) {
    if (half) ((uint16_t *)x)[i] = rounded(value);
    else ((float *)x)[i] = value;
}

INLINE const void *at(const void *x, long i, int half) { return (const char *)x + i * (half ? 2 : 4); }

INLINE void *into(void *x, long i, int half) { return (char *)x + i * (half ? 2 : 4); }

INLINE float power_of_e(float asked) { /* for numbers <= 0; relative error below 1e-5, and 0 below e^-87 */
    const float x = asked < -87.0f ? -87.0f : asked;
    float turns = (float)(int)(x * 1.44269504f - 0.5f);
    float rest = (x - turns * 0.693359375f) + turns * 2.12194440e-4f;
    float sum = 1.0f / 5040;
    sum = sum * rest + 1.0f / 720;
    sum = sum * rest + 1.0f / 120;
    sum = sum * rest + 1.0f / 24;
    sum = sum * rest + 1.0f / 6;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    int32_t bits = (((int32_t)turns + 127) << 23) & -(int32_t)(asked >= -87.0f); /* a choice here would be slow */
    float scale;
    memcpy(&scale, &bits, 4);
    return sum * scale;
}

typedef struct { /* rows, key heads, query heads of each, head size, room of a row, places of a slot; strides */
    long rows, heads, group, size, capacity, widest;
    long shared_slot, shared_head, shared_query, lse_slot, lse_head, lse_query;
} Sizes;

INLINE void turn(long size, int half, const void *restrict x, const void *restrict cosine, const void *restrict sine,
                 void *restrict out) { /* rotary positions: the first half of a head is paired with the second */
    const long middle = size / 2;
    for (long d = 0; d < middle; d++) {
        const float a = get(x, d, half), b = get(x, d + middle, half);
        put(out, d, a * get(cosine, d, half) - b * get(sine, d, half), half);
        put(out, d + middle, b * get(cosine, d + middle, half) + a * get(sine, d + middle, half), half);
    }
}

/* A query's place in the grid [P, K, widest * G, D]. */
INLINE long asked(const Sizes *s, long place, long head, long in_group) {
    const long slot = place / s->widest, in_slot = place % s->widest;
    return (((slot * s->heads + head) * s->widest + in_slot) * s->group + in_group) * s->size;
}

INLINE void spread_row(const Sizes *s, long r, const int half, const void *restrict joined, const void *restrict cosine,
                       const void *restrict sine, const int64_t *restrict length, const int64_t *restrict place,
                       void *restrict grid, void *restrict keys, void *restrict values) {
    const long size = s->size, queries = s->heads * s->group;
    const void *row = at(joined, r * (queries + 2 * s->heads) * size, half);
    const void *c = at(cosine, r * size, half), *w = at(sine, r * size, half);
    for (long i = 0; i < queries; i++)
        turn(size, half, at(row, i * size, half), c, w, into(grid, asked(s, place[r], i / s->group, i % s->group), half));
    for (long h = 0; h < s->heads; h++) {
        const long to = ((r * s->heads + h) * s->capacity + length[r]) * size;
        turn(size, half, at(row, (queries + h) * size, half), c, w, into(keys, to, half));
        memcpy(into(values, to, half), at(row, (queries + s->heads + h) * size, half), size * (half ? 2 : 4));
    }
}

void spread(int threads, const Sizes *s, int half, const void *joined, const void *cosine, const void *sine,
            const int64_t *length, const int64_t *place, void *grid, void *keys, void *values) {
#pragma omp parallel for num_threads(threads)
    for (long r = 0; r < s->rows; r++) {
        if (half) spread_row(s, r, 1, joined, cosine, sine, length, place, grid, keys, values);
        else spread_row(s, r, 0, joined, cosine, sine, length, place, grid, keys, values);
    }
}

INLINE void attend_row(const Sizes *s, const long r, const long group, const long size, const int half, float scale,
                       const void *restrict grid, const void *restrict keys, const void *restrict values,
                       const void *restrict shared, const float *restrict shared_lse, const int64_t *restrict length,
                       const int64_t *restrict place, void *restrict out, float *restrict scores,
                       float *restrict query, float *restrict sum, float *restrict one) {
    const long capacity = s->capacity, n = length[r] + 1, slot = place[r] / s->widest, in_slot = place[r] % s->widest;
    for (long h = 0; h < s->heads; h++) {
        const long own = (r * s->heads + h) * capacity * size;
        for (long g = 0; g < group; g++) {
            const void *x = at(grid, asked(s, place[r], h, g), half);
            for (long d = 0; d < size; d++) query[g * size + d] = get(x, d, half) * scale;
        }
        for (long j = 0; j < n; j++) {
            const void *x = at(keys, own + j * size, half);
            for (long d = 0; d < size; d++) one[d] = get(x, d, half);
            for (long g = 0; g < group; g++) {
                float dot = 0;
                for (long d = 0; d < size; d++) dot += query[g * size + d] * one[d];
                scores[g * capacity + j] = dot;
            }
        }
        for (long g = 0; g < group; g++) {
            float *restrict score = scores + g * capacity, most = score[0], total = 0;
            for (long j = 0; j < n; j++) most = score[j] > most ? score[j] : most;
            for (long j = 0; j < n; j++) {
                score[j] = power_of_e(score[j] - most);
                total += score[j];
            }
            const long q = in_slot * group + g;
            const float other = shared_lse[slot * s->lse_slot + h * s->lse_head + q * s->lse_query];
            const float weight = 1.0f / (1.0f + expf(other - most - logf(total))), share = weight / total;
            const void *x = at(shared, slot * s->shared_slot + h * s->shared_head + q * s->shared_query, half);
            for (long d = 0; d < size; d++) sum[g * size + d] = (1.0f - weight) * get(x, d, half);
            for (long j = 0; j < n; j++) score[j] *= share;
        }
        for (long j = 0; j < n; j++) {
            const void *x = at(values, own + j * size, half);
            for (long d = 0; d < size; d++) one[d] = get(x, d, half);
            for (long g = 0; g < group; g++) {
                const float p = scores[g * capacity + j];
                for (long d = 0; d < size; d++) sum[g * size + d] += p * one[d];
            }
        }
        for (long i = 0; i < group * size; i++) put(out, (r * s->heads + h) * group * size + i, sum[i], half);
    }
}

#define ATTEND(G, D, HALF) \
    attend_row(s, r, G, D, HALF, scale, grid, keys, values, shared, shared_lse, length, place, out, scores, query, sum, one)
#define ATTEND_SIZES(HALF)                                        \
    if (s->size == 64 && s->group == 1) ATTEND(1, 64, HALF);      \
    else if (s->size == 64 && s->group == 3) ATTEND(3, 64, HALF); \
    else if (s->size == 64) ATTEND(s->group, 64, HALF);           \
    else if (s->size == 128) ATTEND(s->group, 128, HALF);         \
    else ATTEND(s->group, s->size, HALF)

int attend(int threads, const Sizes *s, int half, float scale, const void *grid, const void *keys, const void *values,
           const void *shared, const float *shared_lse, const int64_t *length, const int64_t *place, void *out) {
    const long each = s->group * s->capacity + (2 * s->group + 1) * s->size + 16;
    float *scratch = malloc(sizeof(float) * each * threads);
    if (!scratch) return 1;
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; t++) {
        float *scores = scratch + each * t, *query = scores + s->group * s->capacity;
        float *sum = query + s->group * s->size, *one = sum + s->group * s->size;
        for (long r = s->rows * t / threads; r < s->rows * (t + 1) / threads; r++) {
            if (half) {
                ATTEND_SIZES(1);
            } else {
                ATTEND_SIZES(0);
            }
        }
    }
    free(scratch);
    return 0;
}

INLINE void norm_row(long size, int half, float epsilon, const void *restrict x, const void *restrict weight,
                     void *restrict out) {
    float squares = 0;
    for (long d = 0; d < size; d++) squares += get(x, d, half) * get(x, d, half);
    const float scale = 1.0f / sqrtf(squares / size + epsilon);
    for (long d = 0; d < size; d++) {
        float value = get(x, d, half) * scale;
        if (half) {
            uint16_t bits = rounded(value);
            value = get(&bits, 0, 1);
        }
        put(out, d, get(weight, d, half) * value, half);
    }
}

void norm(int threads, long rows, long size, int half, float epsilon, const void *x, const void *weight, void *out) {
#pragma omp parallel for num_threads(threads)
    for (long r = 0; r < rows; r++) {
        void *to = into(out, r * size, half);
        if (half) norm_row(size, 1, epsilon, at(x, r * size, 1), weight, to);
        else norm_row(size, 0, epsilon, at(x, r * size, 0), weight, to);
    }
}

INLINE void norm_backward_row(long size, int half, float epsilon, const void *restrict x, const void *restrict weight,
                              const void *restrict grad, void *restrict dx, float *restrict dweight) {
    float squares = 0, dot = 0;
    for (long d = 0; d < size; d++) squares += get(x, d, half) * get(x, d, half);
    const float scale = 1.0f / sqrtf(squares / size + epsilon);
    for (long d = 0; d < size; d++) dot += get(grad, d, half) * get(weight, d, half) * get(x, d, half);
    const float along = dot * scale * scale / size;
    for (long d = 0; d < size; d++) {
        const float value = get(x, d, half), change = get(grad, d, half);
        dweight[d] += change * value * scale;
        put(dx, d, scale * (change * get(weight, d, half) - value * along), half);
    }
}

void norm_backward(int threads, long rows, long size, int half, float epsilon, const void *x, const void *weight,
                   const void *grad, void *dx, float *dweight) {
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; t++) {
        for (long r = rows * t / threads; r < rows * (t + 1) / threads; r++) {
            const void *in = at(x, r * size, half), *change = at(grad, r * size, half);
            void *to = (void *)at(dx, r * size, half);
            if (half) norm_backward_row(size, 1, epsilon, in, weight, change, to, dweight + t * size);
            else norm_backward_row(size, 0, epsilon, in, weight, change, to, dweight + t * size);
        }
    }
}

INLINE float sigmoid(float x) {
    const float e = power_of_e(x < 0 ? x : -x);
    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

INLINE void gate_span(long n, int half, const void *restrict x, const void *restrict other, void *restrict out) {
    for (long i = 0; i < n; i++) {
        const float value = get(x, i, half);
        put(out, i, value * sigmoid(value) * get(other, i, half), half);
    }
}

void gate(int threads, long n, int half, const void *x, const void *other, void *out) {
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; t++) {
        const long from = n * t / threads, count = n * (t + 1) / threads - from;
        void *to = (void *)at(out, from, half);
        if (half) gate_span(count, 1, at(x, from, 1), at(other, from, 1), to);
        else gate_span(count, 0, at(x, from, 0), at(other, from, 0), to);
    }
}

INLINE void gate_backward_span(long n, int half, const void *restrict x, const void *restrict other,
                               const void *restrict grad, void *restrict dx, void *restrict dother) {
    for (long i = 0; i < n; i++) {
        const float value = get(x, i, half), change = get(grad, i, half), open = sigmoid(value);
        put(dx, i, change * get(other, i, half) * open * (1.0f + value * (1.0f - open)), half);
        put(dother, i, change * value * open, half);
    }
}

void gate_backward(int threads, long n, int half, const void *x, const void *other, const void *grad, void *dx,
                   void *dother) {
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; t++) {
        const long from = n * t / threads, count = n * (t + 1) / threads - from;
        void *to = (void *)at(dx, from, half), *to_other = (void *)at(dother, from, half);
        const void *in = at(x, from, half), *by = at(other, from, half), *change = at(grad, from, half);
        if (half) gate_backward_span(count, 1, in, by, change, to, to_other);
        else gate_backward_span(count, 0, in, by, change, to, to_other);
    }
}

INLINE float slopes_row(long size, int half, float factor, void *restrict x, float *restrict weight, long target) {
    float most = get(x, 0, half), total = 0;
    for (long i = 0; i < size; i++) most = get(x, i, half) > most ? get(x, i, half) : most;
    for (long i = 0; i < size; i++) {
        weight[i] = power_of_e((get(x, i, half) - most) * factor);
        total += weight[i];
    }
    const float logp = (get(x, target, half) - most) * factor - logf(total), each = factor / total;
    for (long i = 0; i < size; i++) put(x, i, -weight[i] * each, half);
    put(x, target, factor - weight[target] * each, half);
    return logp;
}

int slopes(int threads, long rows, long size, int half, float factor, void *x, const int64_t *target, float *logp) {
    float *scratch = malloc(sizeof(float) * size * threads);
    if (!scratch) return 1;
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; t++) {
        for (long r = rows * t / threads; r < rows * (t + 1) / threads; r++) {
            void *row = (void *)at(x, r * size, half);
            if (half) logp[r] = slopes_row(size, 1, factor, row, scratch + t * size, target[r]);
            else logp[r] = slopes_row(size, 0, factor, row, scratch + t * size, target[r]);
        }
    }
    free(scratch);
    return 0;
}

INLINE void draw_row(long size, int half, float inverse_temperature, const void *restrict x, double uniform,
                     float *restrict weight, double *restrict below, int64_t *restrict token, double *restrict logp) {
    const long blocks = (size + BLOCK - 1) / BLOCK;
    float most = get(x, 0, half);
    for (long i = 0; i < size; i++) most = get(x, i, half) > most ? get(x, i, half) : most;
    for (long i = 0; i < size; i++) weight[i] = power_of_e((get(x, i, half) - most) * inverse_temperature);
    double total = 0;
    for (long b = 0; b < blocks; b++) {
        float sum = 0;
        for (long i = 0; i < BLOCK; i++) sum += weight[b * BLOCK + i];
        below[b] = total;
        total += sum;
    }
    const double goal = uniform * total;
    long b = blocks - 1;
    while (b > 0 && below[b] > goal) b--;
    const long last = (b + 1) * BLOCK < size ? (b + 1) * BLOCK - 1 : size - 1;
    long i = b * BLOCK;
    for (double sum = below[b] + weight[i]; sum <= goal && i < last; sum += weight[i]) i++;
    while (i > 0 && weight[i] == 0) i--; /* rounding may lead past the last possible token */
    *token = i;
    *logp = log(weight[i] / total);
}

int draw(int threads, long rows, long size, int half, float inverse_temperature, const void *logits,
         const double *uniform, int64_t *token, double *logp) {
    const long blocks = (size + BLOCK - 1) / BLOCK, each = (sizeof(float) * BLOCK + sizeof(double)) * blocks;
    char *scratch = calloc(threads, each);
    if (!scratch) return 1;
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; t++) {
        float *weight = (float *)(scratch + each * t);
        double *below = (double *)(weight + blocks * BLOCK);
        for (long r = rows * t / threads; r < rows * (t + 1) / threads; r++) {
            const void *x = at(logits, r * size, half);
            if (half) draw_row(size, 1, inverse_temperature, x, uniform[r], weight, below, token + r, logp + r);
            else draw_row(size, 0, inverse_temperature, x, uniform[r], weight, below, token + r, logp + r);
        }
    }
    free(scratch);
    return 0;
}
