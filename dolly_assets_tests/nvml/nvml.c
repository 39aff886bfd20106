/* A libnvidia-ml.so.1 of today: what nvml_2019.c has, and what drivers have got since. */
#include "nvml_2019.c"

/* --- What it does now. */

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;

int nvmlDeviceGetMemoryInfo_v2(const Device *device, MemoryV2 *out) {
    int code = answer_long(device, "nvmlDeviceGetMemoryInfo.total", &out->total);
    if (code == SUCCESS) code = answer_long(device, "nvmlDeviceGetMemoryInfo.used", &out->used);
    if (code == SUCCESS) code = answer_long(device, "nvmlDeviceGetMemoryInfo.reserved", &out->reserved);
    out->free = out->total - out->used - out->reserved;
    return code;
}

int nvmlDeviceGetCurrentClocksEventReasons(const Device *device, unsigned long long *out) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, out);
}

typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Process;

/* "process.N" is the pid of the Nth process on the device, "process_memory.N" the bytes it holds. */
int nvmlDeviceGetComputeRunningProcesses_v3(const Device *device, unsigned *count, Process *out) {
    enum { MOST_PROCESSES = 8 };
    Process found[MOST_PROCESSES];
    unsigned pid, length = 0;
    char name[32];
    while (length < MOST_PROCESSES && answer_nth(device, "process", length, &pid) == SUCCESS) {
        found[length] = (Process){pid, 0, NO_INSTANCE, NO_INSTANCE};
        snprintf(name, sizeof name, "process_memory.%u", length);
        answer_long(device, name, &found[length].memory);
        length++;
    }
    int fits = *count >= length;
    if (fits && out) memcpy(out, found, length * sizeof *out);
    *count = length;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

/* --- GPM: "gpm.M" is the value of metric M. */

typedef struct { unsigned version, is_supported; } GpmSupport;
typedef struct { unsigned metric, code; double value; const char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; Device **sample1, **sample2; GpmMetric metrics[]; } GpmMetrics;

int nvmlGpmQueryDeviceSupport(const Device *device, GpmSupport *out) {
    out->is_supported = find(*device, "gpm.2") != NULL;
    return SUCCESS;
}

int nvmlGpmSampleAlloc(Device ***out) { *out = calloc(1, sizeof **out); return SUCCESS; }
int nvmlGpmSampleFree(Device **sample) { free(sample); return SUCCESS; }
int nvmlGpmSampleGet(Device *device, Device **sample) {
    double number;
    *sample = device;
    return number_of(*device, "gpm.2", &number);
}

int nvmlGpmMetricsGet(GpmMetrics *asked) {
    char name[16];
    if (!asked->sample1 || !asked->sample2 || !*asked->sample1 || *asked->sample1 != *asked->sample2) return INVALID_ARGUMENT;
    for (unsigned i = 0; i < asked->count; i++) {
        snprintf(name, sizeof name, "gpm.%u", asked->metrics[i].metric);
        asked->metrics[i].code = (unsigned)number_of(**asked->sample2, name, &asked->metrics[i].value);
    }
    return SUCCESS;
}

/* --- MIG: "mig_instances" says how many instances a GPU is cut into. */

typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long memory_mib;
} Attributes;

int nvmlDeviceGetMigMode(const Device *device, unsigned *current, unsigned *pending) {
    int code = answer(device, "nvmlDeviceGetMigMode", current);
    *pending = *current;
    return code;
}

int nvmlDeviceGetMaxMigDeviceCount(const Device *device, unsigned *out) { (void)device; *out = MOST_INSTANCES - 1; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(const Device *device, unsigned index, Device **out) {
    unsigned count = 0;
    int code = answer(device, "mig_instances", &count);
    if (code != SUCCESS) return code;
    if (index >= count) return NOT_FOUND;
    *out = &instances[device->gpu][index];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(const Device *device, unsigned *out) {
    *out = (unsigned)device->instance + 7; /* not the index: real ids begin where the profile says */
    return device->instance < 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetComputeInstanceId(const Device *device, unsigned *out) { *out = 0; return device->instance < 0 ? NOT_SUPPORTED : SUCCESS; }

int nvmlDeviceGetAttributes_v2(const Device *device, Attributes *out) {
    unsigned long long total = 0;
    memset(out, 0, sizeof *out);
    int code = answer_long(device, "nvmlDeviceGetMemoryInfo.total", &total);
    out->memory_mib = total >> 20;
    return code;
}

/* --- Connections and health. */

int nvmlDeviceGetNvLinkRemoteDeviceType(const Device *device, unsigned link, unsigned *out) {
    enum { GPU = 0, SWITCH = 2 };
    int gpu = 0;
    int code = other_end(device, link, &gpu);
    *out = gpu < 0 ? SWITCH : GPU;
    return code;
}

int nvmlDeviceGetMemoryAffinity(const Device *device, unsigned size, unsigned long *out, unsigned scope) {
    (void)scope;
    memset(out, 0, size * sizeof *out);
    out[0] = 1ul << socket_of(device->gpu);
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(const Device *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    int code = answer(device, "nvmlDeviceGetRemappedRows.corrected", corrected);
    if (code == SUCCESS) code = answer(device, "nvmlDeviceGetRemappedRows.uncorrected", uncorrected);
    *pending = *failed = 0;
    answer(device, "nvmlDeviceGetRemappedRows.pending", pending);
    answer(device, "nvmlDeviceGetRemappedRows.failed", failed);
    return code;
}

int nvmlEventSetWait_v2(void *set, Event *out, unsigned milliseconds) { return nvmlEventSetWait(set, out, milliseconds); }
