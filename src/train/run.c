#include "train/run.h"

#include "io/json_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

char *eq_run_block_path(eq_ctx *ctx, const eq_run *run, int64_t block)
{
    return eq_format(ctx, "%s/block-%05lld.safetensors", run->folder, (long long)block);
}

char *eq_run_masters_path(eq_ctx *ctx, const eq_run *run, int64_t block)
{
    return eq_format(ctx, "%s/masters-%05lld.safetensors", run->folder, (long long)block);
}

char *eq_run_stream_path(eq_ctx *ctx, const eq_run *run, const char *name, int64_t block)
{
    return eq_format(ctx, "%s/stream-%s-%05lld", run->folder, name, (long long)block);
}

static eq_status take_lock(eq_ctx *ctx, eq_run *run)
{
    char *path = eq_path_join(ctx, run->folder, "lock");
    if (!path) return EQ_ENOMEM;
    eq_status st = EQ_OK;
    run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (run->lock < 0)
        st = eq_fail(ctx, EQ_EIO, "%s: cannot open: %s", path, strerror(errno));
    else if (flock(run->lock, LOCK_EX | LOCK_NB))
        st = eq_fail(ctx, EQ_EIO, "%s: another process is working in this folder", path);
    eq_free(path);
    return st;
}

bool eq_run_temporary(const char *name)
{
    const char *end = strstr(name, ".tmp-");
    if (end && end[5] && strspn(end + 5, "0123456789") == strlen(end + 5)) return true;
    return !strncmp(name, "calib.tmp-", 10) ||
           (!strncmp(name, "stream-", 7) && eq_path_ends(name, ".tmp"));
}

static bool is_listed(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(name, *list)) return true;
    return false;
}

/* Nothing but files of these names; in the run's own folder also what was being written there. */
static eq_status check_entries(eq_ctx *ctx, const char *folder, const char *const *own,
                               bool temporary)
{
    DIR *dir = opendir(folder);
    if (!dir) return eq_fail(ctx, EQ_EIO, "%s: cannot list: %s", folder, strerror(errno));
    eq_status st = EQ_OK;
    for (struct dirent *e = readdir(dir); e && st == EQ_OK; e = readdir(dir)) {
        const char *n = e->d_name;
        if (is_listed(n, own) || (temporary && eq_run_temporary(n))) continue;
        st = eq_fail(ctx, EQ_EMISMATCH, "%s: holds %s but no run of eqat; choose another folder",
                     folder, n);
    }
    closedir(dir);
    return st;
}

/* A folder without a plan must not hold anything of somebody else's. */
static eq_status check_vacant(eq_ctx *ctx, const eq_run *run)
{
    static const char *const OUT[] = {".", "..", "run", NULL};
    static const char *const RUN[] = {".", "..", "lock", "calib.npy", NULL};
    if (eq_file_exists(run->plan_path)) return EQ_OK;
    eq_status st = check_entries(ctx, run->out, OUT, false);
    if (st == EQ_OK && eq_folder_exists(run->folder))
        st = check_entries(ctx, run->folder, RUN, true);
    return st;
}

static char *plain_text(const json_t *value)
{
    return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
}

static eq_status differs(eq_ctx *ctx, const char *path, const char *section, const char *key,
                         const json_t *before, const json_t *value)
{
    char *a = plain_text(before), *b = plain_text(value);
    eq_status st = eq_fail(ctx, EQ_EMISMATCH,
                           "%s: this run was started with %s %s = %s, now it is %s; use the same "
                           "or another folder",
                           path, section, key, a ? a : "nothing", b ? b : "nothing");
    free(a);
    free(b);
    return st;
}

/* The first member in which two sections differ, or that only one has; when `now` is part of a
 * section, it may lack some. */
static eq_status compare_section(eq_ctx *ctx, const char *path, const char *section, json_t *old,
                                 json_t *now, bool part)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(now, key, value)
    {
        json_t *before = json_object_get(old, key);
        if (!before || !json_equal(before, value))
            return differs(ctx, path, section, key, before, value);
    }
    json_object_foreach(old, key, value)
    {
        if (!part && !json_object_get(now, key))
            return differs(ctx, path, section, key, value, NULL);
    }
    return EQ_OK;
}

static eq_status compare_plans(eq_ctx *ctx, const char *path, json_t *old, json_t *now, bool part)
{
    const char *section = NULL;
    json_t *value = NULL;
    eq_status st = EQ_OK;
    json_object_foreach(now, section, value)
    {
        if (!strcmp(section, "info")) continue;
        if (st == EQ_OK)
            st = compare_section(ctx, path, section, json_object_get(old, section), value, part);
    }
    return st;
}

static eq_status write_plan(eq_ctx *ctx, const eq_run *run, const char *state)
{
    json_object_set_new(json_object_get(run->plan, "info"), "state", json_string(state));
    return eq_json_save(ctx, run->folder, "plan.json", run->plan);
}

/* Results are the same bytes on one kind of CPU only. */
static void warn_of_kernels(eq_ctx *ctx, const eq_run *run, json_t *old)
{
    json_t *before = json_object_get(json_object_get(old, "info"), "kernels");
    json_t *now = json_object_get(json_object_get(run->plan, "info"), "kernels");
    if (!before || !now || json_equal(before, now)) return;
    eq_log(
        ctx, EQ_LOG_WARNING,
        "%s: was started with kernels for %s and goes on with those for %s: the result will have "
        "other bytes than that of one machine",
        run->out, json_string_value(before), json_string_value(now));
}

static eq_status load_or_write_plan(eq_ctx *ctx, eq_run *run)
{
    json_t *old = NULL;
    if (!eq_file_exists(run->plan_path)) return write_plan(ctx, run, "running");
    eq_status st = eq_json_load(ctx, &old, run->plan_path);
    if (st != EQ_OK) return st;
    st = compare_plans(ctx, run->plan_path, old, run->plan, false);
    if (st == EQ_OK) warn_of_kernels(ctx, run, old);
    const char *state = json_string_value(json_object_get(json_object_get(old, "info"), "state"));
    run->resumed = true;
    run->finished = state && !strcmp(state, "finished");
    json_decref(old);
    return st;
}

static eq_status open_log(eq_ctx *ctx, eq_run *run)
{
    char *path = eq_path_join(ctx, run->folder, "log.jsonl");
    if (!path) return EQ_ENOMEM;
    run->log = fopen(path, "a+e");
    eq_status st = EQ_OK;
    if (!run->log) st = eq_fail(ctx, EQ_EIO, "%s: cannot open: %s", path, strerror(errno));
    const bool cut = run->log && !fseek(run->log, -1, SEEK_END) && fgetc(run->log) != '\n';
    if (run->log) fseek(run->log, 0, SEEK_END);
    if (cut) fputc('\n', run->log); /* a line that a full disk cut short */
    eq_free(path);
    return st;
}

eq_status eq_run_enter(eq_ctx *ctx, eq_run *run, const char *out)
{
    *run = (eq_run){.lock = -1};
    run->out = eq_strndup(ctx, out, strlen(out));
    run->folder = eq_path_join(ctx, out, "run");
    run->plan_path = eq_path_join(ctx, out, "run/plan.json");
    eq_status st = run->out && run->folder && run->plan_path ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) st = eq_folder_make(ctx, run->out);
    if (st == EQ_OK) st = check_vacant(ctx, run);
    if (st == EQ_OK) st = eq_folder_make(ctx, run->folder);
    if (st == EQ_OK) st = take_lock(ctx, run);
    if (st != EQ_OK) eq_run_close(run);
    return st;
}

static eq_status check_plan(eq_ctx *ctx, const eq_run *run, const json_t *plan)
{
    return plan ? EQ_OK : eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", run->out);
}

eq_status eq_run_check(eq_ctx *ctx, const eq_run *run, json_t *plan)
{
    json_t *old = NULL;
    eq_status st = check_plan(ctx, run, plan);
    if (st == EQ_OK && eq_file_exists(run->plan_path)) st = eq_json_load(ctx, &old, run->plan_path);
    if (old) st = compare_plans(ctx, run->plan_path, old, plan, true);
    json_decref(old);
    json_decref(plan);
    return st;
}

eq_status eq_run_open(eq_ctx *ctx, eq_run *run, json_t *plan)
{
    run->plan = plan;
    eq_status st = check_plan(ctx, run, plan);
    if (st == EQ_OK) st = load_or_write_plan(ctx, run);
    return st == EQ_OK ? open_log(ctx, run) : st;
}

eq_status eq_run_log(eq_ctx *ctx, eq_run *run, json_t *line)
{
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(line);
    if (!text) return eq_fail(ctx, EQ_ENOMEM, "%s/log.jsonl: out of memory", run->folder);
    bool ok = fprintf(run->log, "%s\n", text) > 0 && !fflush(run->log);
    free(text);
    return ok ? EQ_OK
              : eq_fail(ctx, EQ_EIO, "%s/log.jsonl: cannot write: %s", run->folder,
                        strerror(errno));
}

eq_status eq_run_log_epoch(eq_ctx *ctx, eq_run *run, json_t *line, const char *what,
                           const eq_epoch *e)
{
    char val[64] = "";
    json_object_set_new(line, "epoch", json_integer(e->number));
    json_object_set_new(line, "train_loss", json_real(e->train));
    if (e->val >= 0) {
        json_object_set_new(line, "val_loss", json_real(e->val));
        snprintf(val, sizeof val, ", validation loss %.6g", e->val);
    }
    json_object_set_new(line, "seconds", json_real(e->seconds));
    eq_log(ctx, EQ_LOG_INFO, "%s, epoch %d: training loss %.6g%s, %.1f s", what, e->number,
           e->train, val, e->seconds);
    return eq_run_log(ctx, run, line);
}

eq_status eq_run_finish(eq_ctx *ctx, eq_run *run)
{
    eq_status st = write_plan(ctx, run, "finished");
    run->finished = st == EQ_OK;
    return st;
}

void eq_run_close(eq_run *run)
{
    if (run->log) fclose(run->log);
    if (run->lock >= 0) close(run->lock);
    json_decref(run->plan);
    eq_free(run->plan_path);
    eq_free(run->folder);
    eq_free(run->out);
    *run = (eq_run){.lock = -1};
}
