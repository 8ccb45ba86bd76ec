"""liveavatar-livekit: joins a LiveKit room as the avatar of an agent."""
import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from livekit import api, rtc
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
from livekit.agents.voice.avatar import AudioReceiver, AvatarOptions, AvatarRunner, DataStreamAudioReceiver

from liveavatar_client import LiveAvatar, LiveAvatarError, LiveOptions

from .generator import LiveAvatarGenerator

logger = logging.getLogger(__name__)


def avatar_options(avatar: LiveAvatar) -> AvatarOptions:
    """Of an avatar that is open."""
    started = avatar.started
    return AvatarOptions(video_width=started["width"], video_height=started["height"], video_fps=started["fps"],
                         audio_sample_rate=started["sample_rate"], audio_channels=1)


async def run_avatar(room: rtc.Room, avatar: LiveAvatar, audio: AudioReceiver):
    """Until the room is left, or the avatar fails. LiveAvatarError: how."""
    runner = AvatarRunner(room, audio_recv=audio, video_gen=LiveAvatarGenerator(avatar), options=avatar_options(avatar))
    left = asyncio.Event()
    room.on("disconnected", lambda *_: left.set())
    await runner.start()
    tasks = [asyncio.create_task(runner.wait_for_complete()), asyncio.create_task(left.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await runner.aclose()


def make_token(args) -> str:
    token = api.AccessToken()  # of LIVEKIT_API_KEY and LIVEKIT_API_SECRET
    return (token.with_identity(args.identity).with_name(args.identity).with_kind("agent")
            .with_grants(api.VideoGrants(room_join=True, room=args.room))
            .with_attributes({ATTRIBUTE_PUBLISH_ON_BEHALF: args.agent}).to_jwt())


def leave_with(room: rtc.Room, identity: str | None):
    """The avatar leaves when its agent does."""
    loop = asyncio.get_running_loop()

    def on_left(participant: rtc.RemoteParticipant):
        is_agent = participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        if participant.identity == identity or (identity is None and is_agent):
            loop.create_task(room.disconnect())

    room.on("participant_disconnected", on_left)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: loop.create_task(room.disconnect()))


async def serve_room(args):
    avatar = LiveAvatar(LiveOptions(server=args.server, key=args.key, portrait=args.portrait, prompt=args.prompt,
                                    size=args.size, sample_rate=args.sample_rate))
    await avatar.open()  # first: who joins is ready
    room = rtc.Room()
    try:
        await room.connect(args.url, args.token or make_token(args))
        logger.info("in room %s as %s", room.name, room.local_participant.identity)
        agent = args.agent or room.local_participant.attributes.get(ATTRIBUTE_PUBLISH_ON_BEHALF)
        leave_with(room, agent)
        await run_avatar(room, avatar, DataStreamAudioReceiver(room, sender_identity=agent))
    finally:
        await avatar.close()
        await room.disconnect()


def portrait_of(text: str) -> str | bytes:
    return Path(text).read_bytes() if Path(text).is_file() else text


def parse_args(argv=None):
    env = os.environ.get
    parser = argparse.ArgumentParser(prog="liveavatar-livekit", description=__doc__)
    parser.add_argument("--url", default=env("LIVEKIT_URL"), help="of the LiveKit server (LIVEKIT_URL)")
    parser.add_argument("--token", default=env("LIVEKIT_TOKEN"),
                        help="of the avatar, made by the agent; or --room and --agent, with LIVEKIT_API_KEY and "
                             "LIVEKIT_API_SECRET")
    parser.add_argument("--room", help="the room's name")
    parser.add_argument("--agent", help="the agent's identity; default: as the token says")
    parser.add_argument("--identity", default="liveavatar", help="of the avatar, in a token that is made here")
    parser.add_argument("--server", default=env("LIVEAVATAR_URL", "http://127.0.0.1:8080"),
                        help="liveavatar serve (LIVEAVATAR_URL)")
    parser.add_argument("--key", default=env("LIVEAVATAR_API_KEY", ""), help="of liveavatar serve (LIVEAVATAR_API_KEY)")
    parser.add_argument("--portrait", type=portrait_of, default="demo", help="the name of a kept one, or an image file")
    parser.add_argument("--prompt", default="", help="a sentence that describes the person and the scene")
    parser.add_argument("--size", default="", help='an area, as "704*384"')
    parser.add_argument("--sample_rate", type=int, default=24000, help="of the sound; the agent's own is best")
    args = parser.parse_args(argv)
    if not args.url:
        parser.error("--url or LIVEKIT_URL is missing: the address of the LiveKit server")
    if not args.token and not (args.room and args.agent):
        parser.error("--token is missing; or give --room and --agent, and LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
    return args


def main():
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = parse_args()
    try:
        asyncio.run(serve_room(args))
    except (LiveAvatarError, rtc.ConnectError, ValueError) as error:
        sys.exit(f"liveavatar-livekit: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
