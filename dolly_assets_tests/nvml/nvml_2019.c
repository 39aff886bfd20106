/* A libnvidia-ml.so.1 that reads its answers from a script: what a driver of 2019 exports.
 *
 * The script is the file that NVML_SCRIPT names. A line says who answers, what, and which values over time:
 *
 *     WHO WHAT VALUE[@SECONDS] VALUE@SECONDS ...
 *
 * WHO is "-" (the machine), "all" (every GPU), "3" (a GPU), "all/mig" (every MIG instance) or "0/1" (instance 1 of GPU 0).
 * WHAT is the NVML function, with ".field" where it gives several values, or a word of ours (lost, devices, xid ...).
 * SECONDS count from nvmlInit; a value without them holds from the start. Later lines replace earlier ones.
 * VALUE is one of
 *     95        a number
 *     95~3      swings by 3 around 95
 *     500+30    a counter: 500 at the start and 30 more each second
 *     error:4   the function returns NVML's error 4
 *     hang      the function does not return until the next value's time, without one it never does
 *     some_text text, "_" stands for a blank
 * "include FILE" takes in another script of the same folder. What the script does not name is not supported.
 */
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, LOST = 15 };
enum { WHOLE = -1, MACHINE = -1, ALL = -2 };
enum { MOST_GPUS = 64, MOST_INSTANCES = 8, MOST_LINES = 2000, MOST_VALUES = 16, TEXT = 96 };

typedef struct { int gpu, instance; } Device;
typedef struct { char text[TEXT]; double since; } Value;
typedef struct { Device who; char what[64]; Value values[MOST_VALUES]; int count; } Line;

static Line lines[MOST_LINES];
static int line_count;
static Device gpus[MOST_GPUS], instances[MOST_GPUS][MOST_INSTANCES];
static const Device machine = {MACHINE, WHOLE};
static struct timespec start;

/* --- The script. */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)(time.tv_sec - start.tv_sec) + (double)(time.tv_nsec - start.tv_nsec) / 1e9;
}

static void sleep_until(double moment) {
    double left;
    while ((left = moment - now()) > 0) usleep((useconds_t)(fmin(left, 0.5) * 1e6) + 1);
}

static Device parse_who(const char *text) {
    const char *slash = strchr(text, '/');
    int is_all = strncmp(text, "all", 3) == 0;
    if (strcmp(text, "-") == 0) return machine;
    if (!slash) return (Device){is_all ? ALL : atoi(text), WHOLE};
    return (Device){is_all ? ALL : atoi(text), is_all ? ALL : atoi(slash + 1)};
}

static void read_script(const char *path) {
    char text[1024], folder[1024], included[1200];
    FILE *file = fopen(path, "r");
    if (!file) { fprintf(stderr, "NVML stand-in: cannot read the script %s\n", path); abort(); }
    while (fgets(text, sizeof text, file)) {
        char *rest = text, *word = strtok_r(text, " \n", &rest);
        if (!word || word[0] == '#') continue;
        char *what = strtok_r(NULL, " \n", &rest);
        if (strcmp(word, "include") == 0) {
            snprintf(folder, sizeof folder, "%s", path);
            snprintf(included, sizeof included, "%s/%s", dirname(folder), what);
            read_script(included);
            continue;
        }
        Line *line = &lines[line_count++];
        line->who = parse_who(word);
        snprintf(line->what, sizeof line->what, "%s", what);
        while (line->count < MOST_VALUES && (word = strtok_r(NULL, " \n", &rest))) {
            Value *value = &line->values[line->count++];
            char *since = strchr(word, '@');
            value->since = since ? atof(since + 1) : 0;
            if (since) *since = '\0';
            snprintf(value->text, sizeof value->text, "%s", word);
        }
    }
    fclose(file);
}

static int is_about(const Line *line, Device device) {
    if (line->who.gpu == ALL) return device.gpu >= 0 && (line->who.instance == WHOLE) == (device.instance == WHOLE);
    return line->who.gpu == device.gpu && line->who.instance == device.instance;
}

static const Line *find(Device device, const char *what) {
    for (int i = line_count - 1; i >= 0; i--)
        if (strcmp(lines[i].what, what) == 0 && is_about(&lines[i], device)) return &lines[i];
    return NULL;
}

/* The text that holds now, or NULL. Waits as long as the script says "hang". */
static const char *text_of(Device device, const char *what) {
    const Line *line = find(device, what);
    int current = -1;
    if (!line) return NULL;
    while (current + 1 < line->count && line->values[current + 1].since <= now()) current++;
    if (current < 0) return NULL;
    if (strcmp(line->values[current].text, "hang") != 0) return line->values[current].text;
    if (current + 1 == line->count) for (;;) pause();
    sleep_until(line->values[current + 1].since);
    return text_of(device, what);
}

/* Gives the number that holds now; returns NVML's code. */
static int number_of(Device device, const char *what, double *number) {
    if (strcmp(what, "lost") != 0 && device.gpu >= 0) {
        double lost = 0;
        if (number_of((Device){device.gpu, WHOLE}, "lost", &lost) == SUCCESS && lost) return LOST;
    }
    const char *text = text_of(device, what);
    char *rest;
    if (!text) return NOT_SUPPORTED;
    if (strncmp(text, "error:", 6) == 0) return atoi(text + 6);
    *number = strtod(text, &rest);
    if (*rest == '~') *number += atof(rest + 1) * sin(2.1 * now() + device.gpu);
    if (*rest == '+') *number += atof(rest + 1) * now();
    return SUCCESS;
}

static int answer(const Device *device, const char *what, unsigned *out) {
    double number;
    int code = number_of(*device, what, &number);
    if (code == SUCCESS) *out = (unsigned)number;
    return code;
}

static int answer_long(const Device *device, const char *what, unsigned long long *out) {
    double number;
    int code = number_of(*device, what, &number);
    if (code == SUCCESS) *out = (unsigned long long)number;
    return code;
}

/* As above, for one of a function's values that has a number: "WHAT.NUMBER". */
static int answer_nth(const Device *device, const char *what, unsigned nth, unsigned *out) {
    char name[64];
    snprintf(name, sizeof name, "%s.%u", what, nth);
    return answer(device, name, out);
}

static int answer_text(const Device *device, const char *what, char *out, unsigned size) {
    double lost = 0;
    if (number_of((Device){device->gpu, WHOLE}, "lost", &lost) == SUCCESS && lost) return LOST;
    const char *text = text_of(*device, what);
    if (!text) return NOT_SUPPORTED;
    snprintf(out, size, "%s", text);
    for (char *c = out; *c; c++) if (*c == '_') *c = ' ';
    return SUCCESS;
}

static int gpu_count(void) {
    double count = 0;
    number_of(machine, "devices", &count);
    return (int)count;
}

/* --- The library and its devices. */

int nvmlInitWithFlags(unsigned flags) {
    const char *script = getenv("NVML_SCRIPT");
    (void)flags;
    if (line_count) return SUCCESS;
    if (!script) { fprintf(stderr, "NVML stand-in: NVML_SCRIPT names no script\n"); abort(); }
    clock_gettime(CLOCK_MONOTONIC, &start);
    read_script(script);
    for (int gpu = 0; gpu < MOST_GPUS; gpu++) {
        gpus[gpu] = (Device){gpu, WHOLE};
        for (int instance = 0; instance < MOST_INSTANCES; instance++) instances[gpu][instance] = (Device){gpu, instance};
    }
    double code = SUCCESS;
    number_of(machine, "nvmlInit", &code);
    return (int)code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "NVML error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { return answer_text(&machine, "nvmlSystemGetDriverVersion", out, size); }
int nvmlSystemGetNVMLVersion(char *out, unsigned size) { return answer_text(&machine, "nvmlSystemGetNVMLVersion", out, size); }
int nvmlSystemGetCudaDriverVersion(int *out) { return answer(&machine, "nvmlSystemGetCudaDriverVersion", (unsigned *)out); }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

int nvmlDeviceGetCount_v2(unsigned *out) { *out = (unsigned)gpu_count(); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    if ((int)index >= gpu_count()) return INVALID_ARGUMENT;
    *out = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetIndex(const Device *device, unsigned *out) { *out = (unsigned)device->gpu; return SUCCESS; }
int nvmlDeviceGetName(const Device *device, char *out, unsigned size) { return answer_text(device, "nvmlDeviceGetName", out, size); }

int nvmlDeviceGetUUID(const Device *device, char *out, unsigned size) {
    if (device->instance < 0) snprintf(out, size, "GPU-%08x-57a9-4d1e-8000-000000000000", 0xa1000000u + (unsigned)device->gpu);
    else snprintf(out, size, "MIG-%08x-57a9-4d1e-8000-%012x", 0xa1000000u + (unsigned)device->gpu, (unsigned)device->instance);
    return SUCCESS;
}

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} Pci;

static void pci_of(int gpu, Pci *out) {
    memset(out, 0, sizeof *out);
    out->bus = gpu < 0 ? 0xf0 : 0x10 + 4 * (unsigned)gpu; /* the switch has a bus of its own */
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "0000:%02X:00.0", out->bus);
}

int nvmlDeviceGetPciInfo_v3(const Device *device, Pci *out) { pci_of(device->gpu, out); return SUCCESS; }

/* --- What it does now. */

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;

int nvmlDeviceGetUtilizationRates(const Device *device, Utilization *out) {
    int code = answer(device, "nvmlDeviceGetUtilizationRates.gpu", &out->gpu);
    return code ? code : answer(device, "nvmlDeviceGetUtilizationRates.memory", &out->memory);
}

int nvmlDeviceGetMemoryInfo(const Device *device, Memory *out) {
    unsigned long long reserved = 0;
    int code = answer_long(device, "nvmlDeviceGetMemoryInfo.total", &out->total);
    if (code == SUCCESS) code = answer_long(device, "nvmlDeviceGetMemoryInfo.used", &out->used);
    if (code != SUCCESS) return code;
    answer_long(device, "nvmlDeviceGetMemoryInfo.reserved", &reserved);
    out->used += reserved; /* the first version of this call counts what the driver reserves as used */
    out->free = out->total - out->used;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetPowerUsage", out); }
int nvmlDeviceGetTotalEnergyConsumption(const Device *device, unsigned long long *out) { return answer_long(device, "nvmlDeviceGetTotalEnergyConsumption", out); }
int nvmlDeviceGetTemperature(const Device *device, unsigned sensor, unsigned *out) { (void)sensor; return answer(device, "nvmlDeviceGetTemperature", out); }
int nvmlDeviceGetClockInfo(const Device *device, unsigned clock, unsigned *out) { return answer_nth(device, "nvmlDeviceGetClockInfo", clock, out); }
int nvmlDeviceGetCurrentClocksThrottleReasons(const Device *device, unsigned long long *out) { return answer_long(device, "nvmlDeviceGetCurrentClocksThrottleReasons", out); }
int nvmlDeviceGetPerformanceState(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetPerformanceState", out); }
int nvmlDeviceGetFanSpeed(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetFanSpeed", out); }

int nvmlDeviceGetPcieThroughput(const Device *device, unsigned counter, unsigned *out) {
    usleep(20000); /* as the real one: it counts bytes for 20 ms */
    return answer_nth(device, "nvmlDeviceGetPcieThroughput", counter, out);
}

typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type, code;
    unsigned long long value;
} FieldValue;

int nvmlDeviceGetFieldValues(const Device *device, int count, FieldValue *values) {
    enum { UNSIGNED_LONG_LONG = 3 };
    char name[32];
    double lost = 0;
    if (number_of(*device, "lost", &lost) == SUCCESS && lost) return LOST;
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "nvmlDeviceGetFieldValues.%u", values[i].field);
        values[i].type = UNSIGNED_LONG_LONG;
        values[i].code = (unsigned)answer_long(device, name, &values[i].value);
    }
    return SUCCESS;
}

/* --- What it is, how it is set up and connected. */

int nvmlDeviceGetCudaComputeCapability(const Device *device, int *major, int *minor) {
    int code = answer(device, "nvmlDeviceGetCudaComputeCapability.major", (unsigned *)major);
    return code ? code : answer(device, "nvmlDeviceGetCudaComputeCapability.minor", (unsigned *)minor);
}

int nvmlDeviceGetEccMode(const Device *device, unsigned *current, unsigned *pending) {
    int code = answer(device, "nvmlDeviceGetEccMode", current);
    *pending = *current;
    return code;
}

int nvmlDeviceGetPersistenceMode(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetPersistenceMode", out); }
int nvmlDeviceGetEnforcedPowerLimit(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetEnforcedPowerLimit", out); }
int nvmlDeviceGetMaxPcieLinkGeneration(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetMaxPcieLinkGeneration", out); }
int nvmlDeviceGetMaxPcieLinkWidth(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetMaxPcieLinkWidth", out); }
int nvmlDeviceGetCurrPcieLinkGeneration(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetCurrPcieLinkGeneration", out); }
int nvmlDeviceGetCurrPcieLinkWidth(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetCurrPcieLinkWidth", out); }

/* As in a DGX: two GPUs share a PCIe switch, half of them a socket. */
static int socket_of(int gpu) { return gpu >= (gpu_count() + 1) / 2; }

int nvmlDeviceGetTopologyCommonAncestor(const Device *one, const Device *other, unsigned *out) {
    enum { SWITCHES = 20, NODE = 40, SYSTEM = 50 };
    *out = one->gpu / 2 == other->gpu / 2 ? SWITCHES : socket_of(one->gpu) == socket_of(other->gpu) ? NODE : SYSTEM;
    return SUCCESS;
}

int nvmlDeviceGetP2PStatus(const Device *one, const Device *other, unsigned capability, unsigned *out) {
    (void)other;
    return answer_nth(one, "nvmlDeviceGetP2PStatus", capability, out);
}

int nvmlDeviceGetCpuAffinity(const Device *device, unsigned size, unsigned long *out) {
    memset(out, 0, size * sizeof *out);
    out[0] = socket_of(device->gpu) ? 0xffff0000ul : 0xfffful;
    return SUCCESS;
}

/* "nvlink.L" is the GPU at the other end of link L, -1 for a switch. */
static int other_end(const Device *device, unsigned link, int *gpu) {
    double number;
    char name[32];
    snprintf(name, sizeof name, "nvlink.%u", link);
    int code = number_of(*device, name, &number);
    if (code == SUCCESS) *gpu = (int)number;
    return code;
}

int nvmlDeviceGetNvLinkState(const Device *device, unsigned link, unsigned *active) {
    int gpu = 0;
    int code = other_end(device, link, &gpu);
    *active = code == SUCCESS;
    return code;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(const Device *device, unsigned link, Pci *out) {
    int gpu = 0;
    int code = other_end(device, link, &gpu);
    if (code == SUCCESS) pci_of(gpu, out);
    return code;
}

/* --- Health. */

int nvmlDeviceGetTotalEccErrors(const Device *device, unsigned kind, unsigned counter, unsigned long long *out) {
    (void)counter;
    return answer_long(device, kind ? "nvmlDeviceGetTotalEccErrors.uncorrected" : "nvmlDeviceGetTotalEccErrors.corrected", out);
}

int nvmlDeviceGetRetiredPages(const Device *device, unsigned cause, unsigned *count, unsigned long long *addresses) {
    unsigned retired;
    int code = answer_nth(device, "nvmlDeviceGetRetiredPages", cause, &retired);
    if (code != SUCCESS) return code;
    if (addresses) memset(addresses, 0, retired * sizeof *addresses);
    int fits = addresses && *count >= retired;
    *count = retired;
    return fits || !retired ? SUCCESS : INSUFFICIENT_SIZE;
}

int nvmlDeviceGetPcieReplayCounter(const Device *device, unsigned *out) { return answer(device, "nvmlDeviceGetPcieReplayCounter", out); }

/* --- Events: "xid" lists Xid numbers and the seconds at which they come, "ecc_event" the same with NVML's event types. */

enum { XID = 8, NO_INSTANCE = 0xffffffff };
typedef struct { Device *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;

static double told_until;

int nvmlEventSetCreate(void **set) { *set = &told_until; return SUCCESS; }
int nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }

int nvmlDeviceGetSupportedEventTypes(const Device *device, unsigned long long *out) {
    return answer_long(device, "nvmlDeviceGetSupportedEventTypes", out);
}

int nvmlDeviceRegisterEvents(const Device *device, unsigned long long types, void *set) {
    unsigned long long supported;
    (void)set;
    int code = nvmlDeviceGetSupportedEventTypes(device, &supported);
    return code ? code : (types & ~supported) ? NOT_SUPPORTED : SUCCESS;
}

static double earliest(const char *what, double from, Event *event) {
    double first = INFINITY;
    for (int gpu = 0; gpu < gpu_count(); gpu++) {
        const Line *line = find(gpus[gpu], what);
        for (int i = 0; line && i < line->count; i++) {
            const Value *value = &line->values[i];
            if (value->since <= from || value->since >= first) continue;
            first = value->since;
            int is_xid = strcmp(what, "xid") == 0;
            unsigned long long number = strtoull(value->text, NULL, 10);
            *event = (Event){&gpus[gpu], is_xid ? XID : number, is_xid ? number : 0, NO_INSTANCE, NO_INSTANCE};
        }
    }
    return first;
}

static int wait_for_event(Event *out, unsigned milliseconds) {
    double deadline = now() + milliseconds / 1e3;
    Event xid, ecc;
    double next_xid = earliest("xid", told_until, &xid), next_ecc = earliest("ecc_event", told_until, &ecc);
    double next = fmin(next_xid, next_ecc);
    sleep_until(fmin(next, deadline));
    if (next > deadline) return TIMEOUT;
    *out = next_xid <= next_ecc ? xid : ecc;
    told_until = next;
    return SUCCESS;
}

int nvmlEventSetWait(void *set, Event *out, unsigned milliseconds) { (void)set; return wait_for_event(out, milliseconds); }
