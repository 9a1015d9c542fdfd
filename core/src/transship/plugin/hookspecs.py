"""The hooks: transports, compression methods, block devices, section factories, and sections.

A hook may gain arguments in a later release; it never loses one. An implementation names only
the arguments it uses. All hooks are synchronous, none is called for a page, and what blocks
lives on the objects that they return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.plugin.markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transship.abc.block_server import Serving
    from transship.abc.compression import Compression
    from transship.abc.disk import BlockDevice
    from transship.abc.guest import Guest
    from transship.abc.section import ChannelParsing, Pending, Section, Segments
    from transship.abc.security import ConnectionSecurity
    from transship.abc.settings import Settings
    from transship.abc.transport import Address, Incoming, Options, Outgoing
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader


class TransportHooks:
    """Implemented by a module whose entry point in ``transship.transports`` is its scheme."""

    @hookspec(firstresult=True)
    def start_outgoing(self, address: Address, options: Options) -> Outgoing:
        """Prepare to connect to a destination.

        Source side, whenever an address is to be looked at; a migration enters once what is
        returned. Must not block: the context manager connects when it is entered. Without an
        implementation for the scheme the migration is refused before the guest is touched.

        Args:
            address: Where to, scheme included.
            options: What the operator said beside the address.

        Returns:
            An async context manager that yields the channel.

        Raises:
            BlockedError: The address is malformed, or an option is unknown.
        """

    @hookspec(firstresult=True)
    def start_incoming(self, address: Address, options: Options) -> Incoming:
        """Prepare to listen for a source.

        Destination side, once a migration. Must not block: the returned context manager listens
        when it is entered. Without an implementation for the scheme the migration is refused.

        Args:
            address: Where; a transport says in its README what stands for "any free".
            options: What the operator said beside the address.

        Returns:
            An async context manager that yields the listener.

        Raises:
            BlockedError: The address is malformed, or an option is unknown.
        """

    @hookspec(firstresult=True)
    def channel_capabilities(self) -> Iterable[type]:
        """Say what the channels of this transport may be able to do.

        Either side, when somebody asks what is installed, and on the source before it connects:
        there a migration that needs what is not declared is refused before there is a channel. Must
        not block. Without an implementation nothing is known before there is a channel, and nothing
        is refused until then.

        Returns:
            All capabilities, as types, for which ``Channel.capability`` gives an object, at one end
            at least, on some connection. What one has is still asked of its channel.
        """


class CompressionHooks:
    """Implemented by a module whose entry point in ``transship.compressions`` is the method."""

    @hookspec(firstresult=True)
    def create_compression(self) -> Compression:
        """Make the method that memory is compressed by on extra channels.

        Both sides, once for each migration whose parameter ``multifd-compression`` names it; must
        not block. Without an implementation the parameter is refused.

        Returns:
            The method, whose name is that of the entry point.
        """


class BlockDeviceHooks:
    """Implemented by a module whose entry point in ``transship.block_devices`` is its scheme."""

    @hookspec(firstresult=True)
    def open_block_device(
        self, address: Address, options: Options, security: ConnectionSecurity | None
    ) -> BlockDevice | None:
        """Open what holds the bytes of a disk.

        Either side, once for each disk at such an address, when its guest is made. May block, for
        a bounded time: it is called in a worker thread, or before anything runs. Does not acquire
        the device. Without an implementation for the scheme the guest is not made.

        Args:
            address: Where, scheme included.
            options: What the operator said beside the address.
            security: Secures every connection that the device makes; None for nothing. An
                implementation that does not name this argument, without a default, is not called
                where there is any: the disk is refused.

        Returns:
            The device, which the caller closes; None if the scheme is another's.

        Raises:
            BlockedError: The address is malformed, or an option is unknown.
            ConnectError: What is at that address cannot be reached, or is not there.
        """

    @hookspec(firstresult=True)
    def serve_block_devices(
        self, address: Address, options: Options, security: ConnectionSecurity | None
    ) -> Serving | None:
        """Prepare to serve devices of ours to others, such as a source that mirrors its disks.

        Either side, when an operator asks for it. Must not block: the returned context manager
        listens when it is entered. Without an implementation nothing can be served under the
        scheme.

        Args:
            address: Where to listen, scheme included; it names no export.
            options: What the operator said beside the address.
            security: Secures the connection of every client; None for nothing. An implementation
                that does not name this argument, without a default, is not called where there is
                any: nothing is served.

        Returns:
            An async context manager that yields the server; None if the scheme is another's.

        Raises:
            BlockedError: The address is malformed, or an option is unknown.
        """

    @hookspec(firstresult=True)
    def block_device_certificates(self, address: Address) -> str | None:
        """Say which certificates an address itself names, in its query for example.

        Either side, before one of the other hooks is called, with the ``security`` that is made of
        them. Must not block. Without an implementation no address of the scheme names any.

        Args:
            address: Of a device, or of a server.

        Returns:
            Their folder, as ``tls-creds`` may name it; None if the address names none.

        Raises:
            BlockedError: The address is malformed.
        """


class SectionFactoryHooks:
    """Implemented by a module with an entry point in ``transship.sections``."""

    @hookspec
    def create_sections(self, guest: Guest, settings: Settings) -> Sequence[Section]:
        """Make the section objects for one migration of one guest.

        Both sides, once a migration, before anything is sent; must not block. A factory that
        has nothing to carry for this guest returns an empty list; a guest's part that no
        factory carries is refused in preflight.

        Args:
            guest: The machine that moves, or that will be filled.
            settings: Of this migration. Capabilities stay as they are; parameters may change
                while it runs, and are to be read anew where they matter.

        Returns:
            New sections, in stream order; live ones come before the others in the stream.
        """


class SectionHooks:
    """Implemented by section objects; registered for one migration, called for one section."""

    @hookspec(firstresult=True)
    def begin(self) -> Segments:
        """Yield the body of the START record.

        Source side, once, while the guest runs; live sections only. May take locks and start a
        dirty log; whatever it starts ends in ``complete`` or ``cancel``. Runs in a worker
        thread. A live section without it sends an empty START body.
        """

    @hookspec(firstresult=True)
    def iterate(self, budget_bytes: int) -> Segments:
        """Yield the body of one PART record.

        Source side, any number of times, while the guest runs; live sections only, the next one
        only when this one has nothing left for this pass. Runs in a worker thread. Without it
        the section is sent whole by ``complete``.

        Args:
            budget_bytes: Stop after about so many; at least one page may always be sent.

        Returns:
            The generator, whose own return value says whether this pass is through.
        """

    @hookspec(firstresult=True)
    def pending(self, exact: bool) -> Pending:
        """Say how many bytes are still to be sent.

        Source side, before each ``iterate``; live sections only. Must be quick unless ``exact``.
        Without it the section counts as nothing.

        Args:
            exact: Synchronise the dirty log first; may block for milliseconds.
        """

    @hookspec(firstresult=True)
    def complete(self) -> Segments:
        """Yield the body of the END record (live) or of the FULL record (device).

        Source side, once, after the guest has been paused. Ends what ``begin`` started. Runs in
        a worker thread. Without it the body is empty.
        """

    @hookspec(firstresult=True)
    def cancel(self) -> None:
        """Undo ``begin``: the migration failed or was cancelled, and the guest stays.

        Source side, at most once, whatever has run before, also after ``complete``. The
        generator of a record that failed, or was not pulled to its end, has been closed before.
        Must be quick and must not raise.
        """

    @hookspec(firstresult=True)
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """Parse the body of one record of this section, up to but not including its footer.

        Destination side, once for each record, guest paused. A generator that yields what it
        wants from the reader; it may run in a worker thread between two wants. Without it the
        section cannot be received.

        Whoever drives the generator closes it, also when the channel breaks, the time is up or
        the migration is cancelled: then it ends where it waits, by ``GeneratorExit``. Nothing
        else is called on the destination's side, so what it holds (views of guest memory above
        all) belongs into a ``with`` or a ``finally``.

        Args:
            header: Which record (``header.kind``), in which version.
            reader: Where the bytes come from; nothing read from it may be trusted.

        Raises:
            StreamError: The body is wrong.
        """

    @hookspec(firstresult=True)
    def load_channel(self, number: int) -> ChannelParsing:
        """Parse what comes over one extra channel, behind its initial packet.

        Destination side, once for each of the section's ``extra_channels``, guest paused. Runs in
        a thread of that channel, beside ``load`` and the other channels. Closed as the generator
        of ``load`` is, and before the record that ends the section counts as loaded.

        Args:
            number: Of the channel, from 0.

        Raises:
            StreamError: What came is wrong; the engine adds the channel.
        """
