"""Copies of disks, as jobs."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from transship.control.errors import CommandError, generic
from transship.control.qapi.declaring import Object
from transship.control.registry import CommandTable
from transship.hosting.storage.finding import find_disk
from transship.hosting.storage.jobs import JobStatus

if TYPE_CHECKING:
    from transship.control.registry import Context
    from transship.hosting.storage.jobs import MirrorJob

TABLE = CommandTable()


class MirrorSyncMode(enum.Enum):
    """What is copied at first."""

    FULL = "full"
    TOP = "top"


class MirrorCopyMode(enum.Enum):
    """When what the guest writes is copied."""

    BACKGROUND = "background"
    WRITE_BLOCKING = "write-blocking"


class BlockdevMirror(Object):
    """Which disk, and where to."""

    device: str
    target: str
    sync: MirrorSyncMode
    job_id: str | None = None
    speed: int = 0
    copy_mode: MirrorCopyMode = MirrorCopyMode.BACKGROUND
    auto_dismiss: bool = True


@TABLE.command("blockdev-mirror")
async def blockdev_mirror(context: Context, arguments: BlockdevMirror) -> None:
    """Begin to copy a disk of the guest, and keep the copy in step until the job is ended."""
    mirroring = context.host.mirroring
    disk = find_disk(context.host.guest, arguments.device)
    mirroring.start(
        arguments.job_id or disk.name,
        disk,
        arguments.target,
        only_allocated=arguments.sync is MirrorSyncMode.TOP,
        follows_writes=arguments.copy_mode is MirrorCopyMode.WRITE_BLOCKING,
        cap_bytes_per_s=_speed(arguments.speed),
        is_dismissed_when_over=arguments.auto_dismiss,
    )


class BlockJobCancel(Object):
    """Which job, and whether at once."""

    device: str
    force: bool = False


@TABLE.command("block-job-cancel")
async def block_job_cancel(context: Context, arguments: BlockJobCancel) -> None:
    """End a job: one that is ready once the copy is the same as the disk, others at once."""
    job = _under_way(context, arguments.device)
    if arguments.force or not job.mirror.is_ready:
        job.cancel()
    else:
        job.mirror.finish()


class BlockJobSetSpeed(Object):
    """Which job, and how fast; 0 for as fast as it goes."""

    device: str
    speed: int


@TABLE.command("block-job-set-speed")
async def block_job_set_speed(context: Context, arguments: BlockJobSetSpeed) -> None:
    """Cap the rate of a job."""
    job = _under_way(context, arguments.device)
    job.mirror.cap_bytes_per_s = _speed(arguments.speed)


class JobDismiss(Object):
    """Which job."""

    id: str


@TABLE.command("job-dismiss")
async def job_dismiss(context: Context, arguments: JobDismiss) -> None:
    """Forget a job that is over."""
    context.host.mirroring.dismiss(arguments.id)


class JobType(enum.Enum):
    """What a job does."""

    MIRROR = "mirror"


class JobInfo(Object):
    """A job."""

    id: str
    type: JobType
    status: JobStatus
    current_progress: int
    total_progress: int
    error: str | None = None


@TABLE.command("query-jobs")
async def query_jobs(context: Context) -> list[JobInfo]:
    """All jobs that have not been dismissed."""
    return [_shown(job) for job in context.host.mirroring.jobs.values()]


def _shown(job: MirrorJob) -> JobInfo:
    copied = job.mirror.copied_bytes
    return JobInfo(
        id=job.name,
        type=JobType.MIRROR,
        status=job.status,
        current_progress=copied,
        total_progress=copied + job.mirror.remaining_bytes,
        error=job.error,
    )


def _speed(value: int) -> int:
    if value < 0:
        raise generic("'speed' is not below 0")
    return value


def _under_way(context: Context, name: str) -> MirrorJob:
    """The job of that name.

    Raises:
        CommandError: It is over, or there is none.
    """
    job = context.host.mirroring.jobs.get(name)
    if job is None or job.is_over:
        raise CommandError("DeviceNotActive", f"no job {name!r} is under way")
    return job
